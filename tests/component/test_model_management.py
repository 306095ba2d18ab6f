"""MLR_MLModelManagement over HTTP: storing models (TS 23.482 8.11.2, TS 29.482 6.2.1)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml_repository.database import Database
from tests.support_models import Repository, profile, repository, safetensors, storage

STORAGES = "/mlr-mlmm/v1/storages"


@pytest.fixture
async def repo(database: Database, tmp_path: Path) -> AsyncIterator[Repository]:
    """A running repository."""
    async with repository(database, tmp_path) as running:
        yield running


async def test_storing_makes_a_storage_with_profiles_of_this_repository(repo: Repository) -> None:
    """A stored model gets profile id, server, repository and source, and an address to put its bytes."""
    status, headers, body = await repo.call("POST", STORAGES, json=storage(profile("m1"), profile("m2")))
    assert status == 201
    first, second = body["mlModels"]
    assert [first["mlModelInfo"]["mlModelId"], second["mlModelInfo"]["mlModelId"]] == ["m1", "m2"]
    assert first["mlModelProfId"] != second["mlModelProfId"]
    assert (first["aimleServId"], first["aimleRepId"]) == ("server-1", "repository-1")
    assert first["mlModelInfo"]["mlModelSrcId"] == "owner"
    assert first["mlModelUri"] == {"uri": f"{repo.root}/aimle-artifacts/v1/models/m1"}
    assert (await repo.call("GET", headers["Location"]))[::2] == (200, body)


async def test_what_the_repository_assigns_cannot_be_chosen(repo: Repository) -> None:
    """Identifiers that a consumer sends for itself are not taken over."""
    forged = {"mlModelProfId": "x", "aimleServId": "x", "aimleRepId": "x"}
    sent = profile("m1", mlModelSrcId="x") | forged
    _, _, body = await repo.call("POST", STORAGES, json=storage(sent))
    stored = body["mlModels"][0]
    assert "x" not in {stored[name] for name in forged} | {stored["mlModelInfo"]["mlModelSrcId"]}


async def test_an_address_elsewhere_is_kept(repo: Repository) -> None:
    """A model that lives elsewhere keeps its mlModelUri, and no bytes are taken for it."""
    elsewhere = {"uri": "https://models.example.com/m1"}
    _, _, body = await repo.call("POST", STORAGES, json=storage(profile("m1") | {"mlModelUri": elsewhere}))
    assert body["mlModels"][0]["mlModelUri"] == elsewhere
    status, _, problem = await repo.put_bytes("m1", safetensors())
    assert (status, problem["cause"]) == (409, "ML_MODEL_ELSEWHERE")


async def test_addresses_and_features_are_kept(repo: Repository) -> None:
    """mlModelsAddresses come back as they were sent, with or without models; no feature is supported."""
    sent = {"mlModelsAddresses": [{"fqdn": "models.example.com"}], "suppFeat": "0"}
    _, headers, body = await repo.call("POST", STORAGES, json=sent)
    assert body == sent
    assert (await repo.call("GET", headers["Location"]))[2] == sent


async def test_listing_shows_the_callers_own_storages(repo: Repository) -> None:
    """GET answers with the caller's storages: all, those with given ids, or those with given profiles."""
    one, first = await repo.store(profile("m1"))
    two, second = await repo.store(profile("m2"))
    three, foreign = await repo.store(profile("m3"), subject="somebody else")
    assert sorted_by_model((await repo.call("GET", STORAGES))[2]) == [first, second]
    by_ids = f"{STORAGES}?storage-ids={one}&storage-ids={two}&storage-ids=none&storage-ids={three}"
    assert sorted_by_model((await repo.call("GET", by_ids))[2]) == [first, second]
    profile_ids = [found["mlModels"][0]["mlModelProfId"] for found in (second, foreign)]
    by_profile = f"{STORAGES}?profile-ids={','.join(profile_ids)},none"
    assert (await repo.call("GET", by_profile))[2] == [second]
    assert (await repo.call("GET", f"{STORAGES}?storage-ids=none"))[::2] == (200, [])


def sorted_by_model(storages: list[Any]) -> list[Any]:
    """In the order of the first model's id."""
    return sorted(storages, key=lambda found: found["mlModels"][0]["mlModelInfo"]["mlModelId"])


async def test_both_kinds_of_ids_exclude_each_other(repo: Repository) -> None:
    """storage-ids together with profile-ids is refused (TS 29.482 Table 6.2.1.3.2.3.1-1)."""
    status, _, problem = await repo.call("GET", f"{STORAGES}?storage-ids=a&profile-ids=b")
    assert status == 400
    assert problem["invalidParams"][0]["param"] == "profile-ids"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_a_storage_of_somebody_else_is_not_there(repo: Repository, method: str) -> None:
    """Nobody but its owner can read, change or delete a storage, or learn that it exists."""
    storage_id, before = await repo.store(profile("m1"))
    body = storage(profile("m2")) if method in ("PUT", "PATCH") else None
    foreign = await repo.call(method, f"{STORAGES}/{storage_id}", subject="thief", json=body)
    missing = await repo.call(method, f"{STORAGES}/{'x' * len(storage_id)}", subject="thief", json=body)
    assert foreign[0] == missing[0] == 404
    assert foreign[2] | {"detail": ""} == missing[2] | {"detail": ""}
    assert (await repo.call("GET", f"{STORAGES}/{storage_id}"))[2] == before


async def test_an_id_in_use_is_refused_and_says_not_by_whom(repo: Repository) -> None:
    """An mlModelId is taken once in the repository, whoever has it; nothing of the refused request is stored."""
    await repo.store(profile("m1"))
    own = await repo.call("POST", STORAGES, json=storage(profile("m2"), profile("m1")))
    foreign = await repo.call("POST", STORAGES, subject="other", json=storage(profile("m2"), profile("m1")))
    assert own[0] == foreign[0] == 409
    assert own[2] == foreign[2]
    assert "owner" not in str(foreign[2])
    assert await repo.models.get("m2") is None


async def test_of_many_who_want_an_id_at_once_one_gets_it(repo: Repository) -> None:
    """Storages that are created at the same time with one mlModelId: one is there, the others are refused."""
    answers = await asyncio.gather(
        *(
            repo.call("POST", STORAGES, subject=f"val-{number}", json=storage(profile("m1")))
            for number in range(8)
        )
    )
    assert sorted(status for status, _, _ in answers) == [201] + [409] * 7
    assert await repo.database["storages"].count_documents({}) == 1


async def test_put_replaces_and_keeps_what_is_named_again(repo: Repository) -> None:
    """PUT leaves exactly the models it names; one that was there keeps profile id and bytes, others lose all."""
    storage_id, before = await repo.store(profile("m1"), profile("m2"))
    content = safetensors()
    await repo.put_bytes("m1", content)
    await repo.put_bytes("m2", content)
    changed = profile("m1", interopInfo="tflite")
    status, _, after = await repo.call(
        "PUT", f"{STORAGES}/{storage_id}", json=storage(profile("m3"), changed)
    )
    assert status == 200
    assert [found["mlModelInfo"]["mlModelId"] for found in after["mlModels"]] == ["m3", "m1"]
    kept = after["mlModels"][1]
    assert kept["mlModelProfId"] == before["mlModels"][0]["mlModelProfId"]
    assert kept["mlModelInfo"]["interopInfo"] == "tflite"
    assert kept["mlModelInfo"]["mlModelSize"] == len(content)
    assert await repo.get_bytes("m1") == (200, content)
    assert (await repo.get_bytes("m2"))[0] == 404
    assert await repo.artifact_count() == 1


async def test_put_of_what_was_read_changes_nothing(repo: Repository) -> None:
    """A representation that is sent back as it was got leaves the storage and the bytes as they were."""
    storage_id, _ = await repo.store(profile("m1"))
    content = safetensors()
    await repo.put_bytes("m1", content)
    _, _, read = await repo.call("GET", f"{STORAGES}/{storage_id}")
    read["mlModels"][0]["mlModelUri"]["uri"] = "http://another.name/aimle-artifacts/v1/models/m1"
    _, _, again = await repo.call("PUT", f"{STORAGES}/{storage_id}", json=read)
    assert again["mlModels"][0]["mlModelUri"]["uri"].startswith(repo.root)
    assert await repo.get_bytes("m1") == (200, content)


async def test_moving_a_model_elsewhere_deletes_its_bytes(repo: Repository) -> None:
    """A model that gets an mlModelUri of its own has no bytes here any more."""
    storage_id, _ = await repo.store(profile("m1"))
    await repo.put_bytes("m1", safetensors())
    moved = profile("m1") | {"mlModelUri": {"uri": "https://models.example.com/m1"}}
    await repo.call("PUT", f"{STORAGES}/{storage_id}", json=storage(moved))
    assert (await repo.get_bytes("m1"))[0] == 404
    assert await repo.artifact_count() == 0


async def test_patch_is_a_merge_patch(repo: Repository) -> None:
    """PATCH changes what it names: an array is replaced whole, null removes, the rest stays."""
    storage_id, before = await repo.store(profile("m1"))
    url = f"{STORAGES}/{storage_id}"
    addresses = [{"fqdn": "models.example.com"}]
    status, _, body = await repo.call("PATCH", url, json={"mlModelsAddresses": addresses})
    assert (status, body) == (200, before | {"mlModelsAddresses": addresses})
    _, _, body = await repo.call("PATCH", url, json={"mlModels": [profile("m2")]})
    assert [found["mlModelInfo"]["mlModelId"] for found in body["mlModels"]] == ["m2"]
    assert body["mlModelsAddresses"] == addresses
    _, _, body = await repo.call("PATCH", url, json={"mlModels": None})
    assert body == {"mlModelsAddresses": addresses}
    status, _, problem = await repo.call("PATCH", url, json={"mlModelsAddresses": None})
    assert status == 400
    assert {param["param"] for param in problem["invalidParams"]} == {"/mlModels", "/mlModelsAddresses"}
    assert (await repo.call("GET", url))[2] == body


async def test_delete_takes_models_and_bytes_along(repo: Repository) -> None:
    """After DELETE neither storage, models nor bytes are there, and the ids are free."""
    storage_id, _ = await repo.store(profile("m1"))
    await repo.put_bytes("m1", safetensors())
    assert (await repo.call("DELETE", f"{STORAGES}/{storage_id}"))[0] == 204
    assert (await repo.call("GET", f"{STORAGES}/{storage_id}"))[0] == 404
    assert (await repo.get_bytes("m1"))[0] == 404
    assert await repo.artifact_count() == 0
    await repo.store(profile("m1"), subject="somebody else")


async def test_models_are_gone_when_their_duration_is_over(repo: Repository) -> None:
    """`duration` seconds after storing the model is gone from every answer, and the janitor takes its bytes."""
    expiring = profile("m1", storeDiscReqs={"duration": 60})
    storage_id, _ = await repo.store(expiring, profile("m2"))
    content = safetensors()
    await repo.put_bytes("m1", content)
    repo.clock.advance(59)
    assert await repo.get_bytes("m1") == (200, content)
    repo.clock.advance(1)
    assert (await repo.get_bytes("m1"))[0] == 404
    _, _, body = await repo.call("GET", f"{STORAGES}/{storage_id}")
    assert [found["mlModelInfo"]["mlModelId"] for found in body["mlModels"]] == ["m2"]
    assert await repo.artifact_count() == 1
    assert await repo.models.remove_expired(repo.clock.now()) == 1
    assert await repo.artifact_count() == 0
    assert await repo.database["models"].count_documents({"_id": "m1"}) == 0


async def test_a_storage_ends_with_its_last_model(repo: Repository) -> None:
    """A storage whose models have all expired is not there, before and after the janitor comes."""
    storage_id, _ = await repo.store(profile("m1", storeDiscReqs={"duration": 60}))
    repo.clock.advance(60)
    for _ in range(2):
        assert (await repo.call("GET", f"{STORAGES}/{storage_id}"))[0] == 404
        assert (await repo.call("GET", STORAGES))[2] == []
        await repo.models.remove_expired(repo.clock.now())
    assert await repo.database["storages"].count_documents({}) == 0


async def test_storing_again_renews(repo: Repository) -> None:
    """The storage duration counts from the last time the owner stored the model."""
    expiring = profile("m1", storeDiscReqs={"duration": 60})
    storage_id, _ = await repo.store(expiring)
    repo.clock.advance(50)
    await repo.call("PUT", f"{STORAGES}/{storage_id}", json=storage(expiring))
    repo.clock.advance(50)
    assert (await repo.call("GET", f"{STORAGES}/{storage_id}"))[0] == 200


async def test_a_patch_that_names_no_models_does_not_renew(repo: Repository) -> None:
    """Models that a PATCH leaves out stay as they are, with what is left of their duration."""
    storage_id, _ = await repo.store(profile("m1", storeDiscReqs={"duration": 60}), profile("m2"))
    repo.clock.advance(50)
    addresses = {"mlModelsAddresses": [{"fqdn": "models.example.com"}]}
    await repo.call("PATCH", f"{STORAGES}/{storage_id}", json=addresses)
    repo.clock.advance(10)
    _, _, body = await repo.call("GET", f"{STORAGES}/{storage_id}")
    assert [found["mlModelInfo"]["mlModelId"] for found in body["mlModels"]] == ["m2"]


async def test_an_expired_id_is_free(repo: Repository) -> None:
    """The mlModelId of an expired model can be taken by anybody, and old bytes are not inherited."""
    await repo.store(profile("m1", storeDiscReqs={"duration": 60}))
    await repo.put_bytes("m1", safetensors())
    repo.clock.advance(60)
    await repo.store(profile("m1"), subject="somebody else")
    assert (await repo.get_bytes("m1", subject="somebody else"))[0] == 404
    await repo.models.remove_expired(repo.clock.now())
    assert await repo.artifact_count() == 0
    assert (await repo.models.get("m1")) is not None


@pytest.mark.parametrize(
    ("info", "pointer"),
    [
        ({"mlModelId": "*"}, "mlModelId"),
        ({"mlModelId": ""}, "mlModelId"),
        ({"mlModelId": ".."}, "mlModelId"),
        ({"customDomain": "crops"}, "customDomain"),
        (
            {"phaseInfo": {"phase": "IN_TRAINING", "observedPerf": {"resourceAddr": 1}}},
            "phaseInfo/observedPerf",
        ),
        (
            {"phaseInfo": {"phase": "NOT_TRAINED", "trainingInfo": {"baseModelId": "m0"}}},
            "phaseInfo/trainingInfo",
        ),
        ({"phaseInfo": {"phase": "TRAINED", "contTrainParams": "x"}}, "phaseInfo/contTrainParams"),
        ({"storeDiscReqs": {"accessReqs": {"accessReq": "RESTRICTED"}}}, "storeDiscReqs/accessReqs"),
        (
            {"storeDiscReqs": {"accessReqs": {"accessReq": "PUBLICLY_AVAILABLE", "timePeriod": 1}}},
            "storeDiscReqs/accessReqs/timePeriod",
        ),
    ],
)
async def test_rules_between_attributes(repo: Repository, info: dict[str, Any], pointer: str) -> None:
    """What TS 29.482 6.2.1.6.2 says in words about an MLModel is checked, and the attribute is named."""
    wrong = profile("m2")
    wrong["mlModelInfo"] |= info
    status, _, problem = await repo.call("POST", STORAGES, json=storage(profile("m1"), wrong))
    assert status == 400
    assert [param["param"] for param in problem["invalidParams"]] == [f"/mlModels/1/mlModelInfo/{pointer}"]


async def test_a_model_cannot_be_named_twice(repo: Repository) -> None:
    """One storage request has one profile for each mlModelId."""
    status, _, problem = await repo.call("POST", STORAGES, json=storage(profile("m1"), profile("m1")))
    assert status == 400
    assert problem["invalidParams"][0]["param"] == "/mlModels/1/mlModelInfo/mlModelId"

"""MLR_ModelInformationDiscovery over HTTP: finding models (TS 23.482 8.11.3, TS 29.482 6.2.2)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml_repository.database import Database
from ml_repository.models import queries_of
from tests.support_models import PUBLIC, Repository, profile, repository, safetensors

ANY = {"mlModelId": "*", "storeDiscReqs": {"duration": 0}}
"""A filter that every model meets."""


@pytest.fixture
async def repo(database: Database, tmp_path: Path) -> AsyncIterator[Repository]:
    """A running repository."""
    async with repository(database, tmp_path) as running:
        yield running


async def discover(repo: Repository, criteria: Any = None, **caller: Any) -> list[Any]:
    """The profiles that a caller finds; an empty list for 404."""
    params = {"filt-criteria": json.dumps(ANY | (criteria or {}))}
    status, _, body = await repo.call("GET", "/mlr-mid/v1/models", params=params, **caller)
    if status == 404:
        assert body["cause"] == "ML_MODEL_NOT_FOUND"
        return []
    assert status == 200
    assert list(body) == ["profiles"]
    return body["profiles"]  # type: ignore[no-any-return]


async def found(repo: Repository, criteria: Any = None, **caller: Any) -> list[str]:
    """The ids of the models that a caller finds."""
    return [entry["mlModelInfo"]["mlModelId"] for entry in await discover(repo, criteria, **caller)]


def access(kind: str, **more: Any) -> dict[str, Any]:
    """storeDiscReqs with these access requirements."""
    return {"accessReqs": {"accessReq": kind, **more}}


async def test_who_finds_a_model(repo: Repository) -> None:
    """A consumer finds its own models and those that access requirements and vendors open to it."""
    await repo.store(
        profile("open", storeDiscReqs=PUBLIC),
        profile("listed", storeDiscReqs=access("RESTRICTED", valServerIds=["val-2"], valClientIds=["ue-1"])),
        profile("private", storeDiscReqs=access("PRIVATE_USE_ONLY")),
        profile("unsaid"),
        profile("vendors", vendors=["acme"]),
        profile("timed", storeDiscReqs=access("RESTRICTED", timePeriod=60)),
    )
    assert await found(repo) == ["listed", "open", "private", "timed", "unsaid", "vendors"]
    assert await found(repo, subject="val-2") == ["listed", "open", "timed"]
    assert await found(repo, subject="ue-1") == ["listed", "open", "timed"]
    assert await found(repo, subject="other", vendor="acme") == ["open", "timed", "vendors"]
    repo.clock.advance(60)
    assert await found(repo, subject="other") == ["open"]


async def test_filter_uses_the_index_and_the_rules(repo: Repository) -> None:
    """Attributes of a filter narrow the answer, whether the database compares them or this server does."""
    trained = {"phase": "TRAINED", "observedPerf": {"resourceAddr": 80}, "trainingInfo": {"baseModelId": "a"}}
    await repo.store(
        profile("a", domain="IMAGE_RECOGNITION", valServiceIds=["v1", "v2"], interopInfo="onnx"),
        profile("b", domain="IMAGE_RECOGNITION", valServiceIds=["v2"], phaseInfo=trained),
        profile("c", adaeAnalyticsId="SLICE_PERF", vendors=["acme"]),
    )
    assert await found(repo, {"mlModelId": "b"}) == ["b"]
    assert await found(repo, {"mlModelId": "none"}) == []
    assert await found(repo, {"domain": "IMAGE_RECOGNITION"}) == ["a", "b"]
    assert await found(repo, {"valServiceIds": ["v2"]}) == ["a", "b"]
    assert await found(repo, {"valServiceIds": ["v2", "v1"]}) == ["a"]
    assert await found(repo, {"domain": "IMAGE_RECOGNITION", "interopInfo": "onnx"}) == ["a"]
    assert await found(repo, {"adaeAnalyticsId": "SLICE_PERF"}) == ["c"]
    assert await found(repo, {"vendors": ["acme"]}) == ["c"]
    at_least_80 = {"phase": "TRAINED", "observedPerf": {"resourceAddr": 80}}
    assert await found(repo, {"phaseInfo": at_least_80}) == ["b"]
    assert await found(repo, {"phaseInfo": at_least_80 | {"observedPerf": {"resourceAddr": 81}}}) == []


async def test_base_model_finds_descendants(repo: Repository) -> None:
    """For transfer learning, a filter by baseModelId finds the models that were trained from that base."""
    lineage = {"phase": "TRAINED", "trainingInfo": {"baseModelId": "base"}}
    await repo.store(profile("base"), profile("child", phaseInfo=lineage), profile("stranger"))
    assert await found(repo, {"phaseInfo": lineage}) == ["child"]


async def test_size_is_compared_with_the_stored_bytes(repo: Repository) -> None:
    """A filter by mlModelSize finds models whose file is not larger."""
    await repo.store(profile("m1"))
    content = safetensors()
    assert await found(repo, {"mlModelSize": len(content)}) == []
    await repo.put_bytes("m1", content)
    assert await found(repo, {"mlModelSize": len(content)}) == ["m1"]
    assert await found(repo, {"mlModelSize": len(content) - 1}) == []


@pytest.mark.parametrize("phase", ["IN_TRAINING", "IN_RETRAINING"])
async def test_a_model_in_training_is_shown_but_not_handed_out(repo: Repository, phase: str) -> None:
    """A model in training is found with its phase and without mlModelUri (TS 23.482 8.11.3)."""
    await repo.store(profile("m1", storeDiscReqs=PUBLIC))
    await repo.put_bytes("m1", safetensors())
    assert (await discover(repo, subject="other"))[0]["mlModelUri"]
    await repo.models.set_phase("m1", phase)
    shown = (await discover(repo, subject="other"))[0]
    assert shown["mlModelInfo"]["phaseInfo"]["phase"] == phase
    assert "mlModelUri" not in shown
    await repo.models.set_phase("m1", "TRAINED", observed_perf={"resourceAddr": 91})
    shown = (await discover(repo, subject="other"))[0]
    assert shown["mlModelInfo"]["phaseInfo"]["observedPerf"] == {"resourceAddr": 91}
    assert shown["mlModelUri"]


async def test_a_model_without_bytes_has_no_address(repo: Repository) -> None:
    """Nobody is sent to download what has not been put yet."""
    await repo.store(profile("m1", storeDiscReqs=PUBLIC))
    assert "mlModelUri" not in (await discover(repo, subject="other"))[0]


async def test_others_cannot_probe_the_access_list(repo: Repository) -> None:
    """Neither the answer nor a filter tells a listed consumer who else is listed."""
    listed = access("RESTRICTED", valServerIds=["val-2", "rival"])
    await repo.store(profile("m1", storeDiscReqs=listed))
    shown = (await discover(repo, subject="val-2"))[0]
    assert shown["mlModelInfo"]["storeDiscReqs"] == access("RESTRICTED", valServerIds=["val-2"])
    guess = {"storeDiscReqs": access("RESTRICTED", valServerIds=["rival"])}
    assert await found(repo, guess, subject="val-2") == []
    assert await found(repo, guess) == ["m1"]


async def test_an_expired_model_is_not_found(repo: Repository) -> None:
    """A model whose storage duration is over is not found, whether or not the janitor has been there."""
    await repo.store(profile("m1", storeDiscReqs={"duration": 60}))
    assert await found(repo) == ["m1"]
    repo.clock.advance(60)
    assert await found(repo) == []


async def test_a_filter_is_needed_and_checked(repo: Repository) -> None:
    """A request without filt-criteria, or with one that is no MLModel, is refused by the parameter's name."""
    status, _, problem = await repo.call("GET", "/mlr-mid/v1/models")
    assert (status, problem["invalidParams"][0]["param"]) == (400, "filt-criteria")
    params = {"filt-criteria": json.dumps({"mlModelId": "m1"})}
    status, _, problem = await repo.call("GET", "/mlr-mid/v1/models", params=params)
    assert status == 400
    assert all("filt-criteria" in param["param"] for param in problem["invalidParams"])


@pytest.mark.parametrize(
    "criteria",
    [
        {},
        {"mlModelId": "m1"},
        {"domain": "CUSTOM"},
        {"valServiceIds": ["v1"]},
        {"phaseInfo": {"phase": "TRAINED", "trainingInfo": {"baseModelId": "m0"}}},
    ],
)
async def test_every_search_has_an_index(repo: Repository, criteria: dict[str, Any]) -> None:
    """No search looks at all models."""
    await repo.store(*(profile(f"m{number}") for number in range(5)))
    for query in queries_of("owner", ANY | criteria):
        explained = json.dumps(await repo.database["models"].find(query).explain(), default=str)
        assert "COLLSCAN" not in explained
        assert "IXSCAN" in explained

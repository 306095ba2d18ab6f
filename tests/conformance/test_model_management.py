"""MLR_MLModelManagement (TS 29.482 6.2.1; TS 23.482 8.11.2): storages of ML models."""

from datetime import timedelta
from typing import Any

from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request, fresh
from support.examples import MANAGEMENT, model, storage, store
from support.world import World

Json = Any

API = MANAGEMENT

SHORT = 3
"""Seconds that a model is stored whose end a test waits for."""


def request(name: str, world: World) -> Request:
    """For a new storage."""
    if name == "CreateMLModelsStorage":
        return Request(storage(world))
    variables = {"storageId": store(world).location}
    match name:
        case "GetMLModelsStorages":
            return Request()
        case "UpdateIndMLModelsStorage" | "ModifyIndMLModelsStorage":
            return Request(storage(world), variables=variables)
    return Request(variables=variables)


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return request(name, world)


class TestStorage(Lifecycle):
    """Of storages."""

    api = API
    collection = "/storages"

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return request(name, world)


def listed(world: World, **query: str) -> list[Json]:
    """Identifiers of the models in the listed storages."""
    answer = world.val.call(API, "GetMLModelsStorages", query=query)
    assert answer.status == 200, answer
    return [one["mlModelInfo"]["mlModelId"] for found in answer.body for one in found.get("mlModels", [])]


def test_repository_adds_what_it_assigns(world: World) -> None:
    """Profile, server, repository and source of a stored model are named (6.2.1.6.2.3, 6.2.1.6.2.4)."""
    [profile] = store(world).body["mlModels"]
    assert {"mlModelProfId", "aimleServId", "aimleRepId"} <= profile.keys(), profile
    assert "mlModelSrcId" in profile["mlModelInfo"], profile


def test_storages_are_listed(world: World) -> None:
    """All, those with given identifiers, those with given profiles; none is an empty list."""
    first, second = model(), model()
    one, two = store(world, first), store(world, second)
    assert {first["mlModelId"], second["mlModelId"]} <= set(listed(world))
    assert listed(world, **{"storage-ids": one.location}) == [first["mlModelId"]]
    profile = two.body["mlModels"][0]["mlModelProfId"]
    assert listed(world, **{"profile-ids": profile}) == [second["mlModelId"]]
    assert listed(world, **{"storage-ids": fresh("storage")}) == []


def test_both_kinds_of_identifiers_exclude_each_other(world: World) -> None:
    """Storage and profile identifiers in one request: 400 (6.2.1.3.2.3.1)."""
    query = {"storage-ids": fresh("storage"), "profile-ids": fresh("profile")}
    answer = world.val.call(API, "GetMLModelsStorages", query=query)
    assert answer.status == 400, answer


def test_storage_of_nothing(world: World) -> None:
    """Neither models nor addresses of models: 400 (6.2.1.6.2.2)."""
    for body in ({}, {"mlModels": []}):
        answer = world.val.call(API, "CreateMLModelsStorage", body)
        assert answer.status == 400, answer


def test_patch_of_the_addresses_leaves_the_models(world: World) -> None:
    """What a PATCH does not name stays as it was, whether the server does what it names or refuses to."""
    before = store(world)
    variables = {"storageId": before.location}
    addresses = {"mlModelsAddresses": [{"uri": world.listener.file(world.model)}]}
    answer = world.val.call(API, "ModifyIndMLModelsStorage", addresses, variables=variables)
    assert answer.status in (200, 204) or 400 <= answer.status < 500, answer
    after = world.val.call(API, "GetIndMLModelsStorage", variables=variables)
    assert after.status == 200, after
    assert all(model in after.body.get("mlModels", []) for model in before.body["mlModels"]), after


def test_model_is_gone_after_its_duration(world: World) -> None:
    """`duration` seconds after it was stored, a model is in no answer (6.2.1.6.2.6)."""
    lasting, short = model(), model(storeDiscReqs={"duration": SHORT})
    made = store(world, lasting, short)
    world.val.wait_until(world.val.now() + timedelta(seconds=SHORT))
    assert short["mlModelId"] not in listed(world)
    assert lasting["mlModelId"] in listed(world)
    answer = world.val.call(API, "GetIndMLModelsStorage", variables={"storageId": made.location})
    assert answer.status == 200, answer
    assert [one["mlModelInfo"]["mlModelId"] for one in answer.body["mlModels"]] == [lasting["mlModelId"]]

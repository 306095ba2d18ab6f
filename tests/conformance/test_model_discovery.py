"""MLR_ModelInformationDiscovery (TS 29.482 6.2.2; TS 23.482 8.11.3): stored models that meet a filter."""

import json
from typing import Any

from support.behaviour import EveryOperation
from support.consumer import Consumer, Request, fresh
from support.examples import MANAGEMENT, model, store, wanted
from support.world import World

Json = Any

API = "MLR_ModelInformationDiscovery"


def found(consumer: Consumer, one: Json) -> list[str]:
    """Identifiers of what is found; none also where the server says so with 404."""
    answer = consumer.call(API, "GetMlModelInfo", query={"filt-criteria": json.dumps(wanted(one))})
    assert answer.status in (200, 404), answer
    if answer.status == 404:
        return []
    profiles = [profile["mlModelInfo"] for profile in answer.body.get("profiles", [])]
    return [described["mlModelId"] for described in profiles + answer.body.get("mlModels", [])]


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """For a model that there is."""
        one = model()
        store(world, one)
        return Request(query={"filt-criteria": json.dumps(wanted(one))})


def test_stored_model_is_found(world: World) -> None:
    """By what was said of it, and only it."""
    one = model()
    store(world, one, model())
    assert found(world.val, one) == [one["mlModelId"]]


def test_unmet_filter_finds_nothing(world: World) -> None:
    """404, or an answer without it."""
    one = model()
    store(world, one)
    assert found(world.val, {**one, "interopInfo": fresh("format")}) == []


def test_deleted_model_is_not_found(world: World) -> None:
    """Its storage is deleted, so it is."""
    one = model()
    variables = {"storageId": store(world, one).location}
    assert found(world.val, one) == [one["mlModelId"]]
    deleted = world.val.call(MANAGEMENT, "DeleteIndMLModelsStorage", variables=variables)
    assert deleted.status == 204, deleted
    assert found(world.val, one) == []


def test_access_requirements_hold(world: World) -> None:
    """Others find what is publicly available, and not what is for private use only (6.2.1.6.3.6)."""
    other = world.other
    public = model(storeDiscReqs={"accessReqs": {"accessReq": "PUBLICLY_AVAILABLE"}})
    private = model(storeDiscReqs={"accessReqs": {"accessReq": "PRIVATE_USE_ONLY"}})
    store(world, public, private)
    assert found(other, public) == [public["mlModelId"]]
    assert found(other, private) == []
    assert found(world.val, private) == [private["mlModelId"]]

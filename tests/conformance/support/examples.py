"""Right bodies for the requests of several test files, and the names of the APIs that they belong to."""

from typing import Any

import pytest

from support.aimle_client import REGISTRATION, SERVICE, AimleClient
from support.consumer import Consumer, fresh
from support.exchange import Exchange
from support.world import World

Json = Any

__all__ = ["MANAGEMENT", "OPERATIONS", "REGISTRATION", "SELECTION", "SERVICE"]
__all__ += ["client_set", "criteria", "model", "storage", "store", "wanted"]

MANAGEMENT = "MLR_MLModelManagement"
OPERATIONS = "AIMLES_AIMLEServiceOperationsManagement"
SELECTION = "AIMLES_AIMLEClientSelection"


def criteria(dataset: str) -> Json:
    """ClientDiscCriteria that the clients with this data set meet."""
    return {
        "serviceReq": {"valServId": SERVICE, "permLevel": "STANDARD"},
        "aimlOpers": ["MODEL_TRAINING"],
        "clientAppCap": {"appType": "FL"},
        "datasetReq": {"avail": {"ids": [dataset]}},
    }


def client_set(world: World, *clients: AimleClient) -> str:
    """A client set of these clients; the test is skipped where the server names none, as it may."""
    body = {"valSvcId": SERVICE, "clients": [client.name for client in clients]}
    answer = world.val.call(SELECTION, "Select", body)
    assert answer.status == 200, answer
    if "clientSet" not in answer.body:
        pytest.skip("not run: the server's selections name no client set")
    return str(answer.body["clientSet"])


def model(**changes: Json) -> Json:
    """An MLModel with a new identifier."""
    described = {"valServiceIds": [SERVICE], "domain": "IMAGE_RECOGNITION", "interopInfo": fresh("format")}
    return {"mlModelId": fresh("model"), **described, **changes}


def wanted(one: Json) -> Json:
    """An MLModel as a filter for a model."""
    return {"mlModelId": one["mlModelId"], "interopInfo": one["interopInfo"]}


def storage(world: World, *models: Json) -> Json:
    """An MLModelsStorage of models whose bytes are at the suite's own address."""
    endpoint = {"uri": world.listener.file(world.model)}
    return {"mlModels": [{"mlModelInfo": one, "mlModelUri": endpoint} for one in models or (model(),)]}


def store(world: World, *models: Json, consumer: Consumer | None = None) -> Exchange:
    """Store models."""
    answer = (consumer or world.val).call(MANAGEMENT, "CreateMLModelsStorage", storage(world, *models))
    assert answer.status == 201, answer
    return answer

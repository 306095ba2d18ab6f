"""AIMLES_AIMLEServiceOperationsManagement (TS 29.482 6.1.5; TS 23.482 8.20): operations at AIMLE clients."""

from typing import Any

from support.aimle_client import AimleClient
from support.behaviour import EveryOperation
from support.consumer import Request, fresh, unknown
from support.examples import OPERATIONS, SERVICE, client_set
from support.world import World

Json = Any

API = OPERATIONS


def order(client: AimleClient, mode: str, task: str) -> Json:
    """An AimlServOperReq for a task of the VAL server."""
    return {"valSvcId": SERVICE, "clients": [client.name], "operId": {"taskId": task}, "operMode": mode}


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """START of a task at a new client."""
        return Request(order(world.registered_client(), "START", fresh("task")))


def test_start_and_stop_reach_the_client(world: World) -> None:
    """The client is told what to start and what to stop, and the answers name it."""
    client, task = world.registered_client(), fresh("task")
    for mode in ("START", "STOP"):
        answer = world.val.call(API, "Request", order(client, mode, task))
        assert answer.status == 200, answer
        assert answer.body["operId"] == {"taskId": task}, answer
        assert answer.body["operMode"] == mode, answer
        client.wait(
            lambda one, mode=mode: one.operations[-1:] and one.operations[-1]["servOpMode"] == mode, mode
        )
    assert len({body["servOpId"] for body in client.operations}) == 1


def test_operation_at_a_client_set(world: World) -> None:
    """`setId` means the clients of the set."""
    client = world.registered_client()
    body = {**order(client, "START", fresh("task")), "setId": client_set(world, client)}
    del body["clients"]
    answer = world.val.call(API, "Request", body)
    assert answer.status == 200, answer
    client.wait(lambda one: bool(one.operations), "being told to start")


def test_start_without_an_identifier(world: World) -> None:
    """`operId` may be left out; the answer has one (6.1.4.6.2.3)."""
    body = order(world.registered_client(), "START", "")
    del body["operId"]
    answer = world.val.call(API, "Request", body)
    assert answer.status == 200, answer


def test_set_of_somebody_else(world: World) -> None:
    """403, or 404 as if there were none."""
    client = world.registered_client()
    other = world.other
    body = {"setId": client_set(world, client), "operMode": "START", "operId": {"taskId": fresh("task")}}
    answer = other.call(API, "Request", body)
    assert answer.status in (403, 404), answer
    assert client.operations == []


def test_unknown_training_or_set(world: World) -> None:
    """An error: 404, or 400."""
    client = world.registered_client()
    stop = {"clients": [client.name], "operMode": "STOP", "operId": {"trainingId": unknown()}}
    start = {"setId": unknown(), "operMode": "START", "operId": {"taskId": fresh("task")}}
    for body in (stop, start):
        answer = world.val.call(API, "Request", body)
        assert answer.status in (400, 404), answer


def test_clients_and_set_exclude_each_other(world: World) -> None:
    """Exactly one of both is given: otherwise 400."""
    client = world.registered_client()
    both = {**order(client, "START", fresh("task")), "setId": "x"}
    neither = {"operId": {"taskId": fresh("task")}, "operMode": "START"}
    for body in (both, neither):
        answer = world.val.call(API, "Request", body)
        assert answer.status == 400, answer

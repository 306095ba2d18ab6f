"""Aimles_AimlTaskTransfer (TS 24.560; TS 23.482 8.6): AI/ML tasks that move from one client to another.

Aimlec_AimlTaskTransfer is what the server asks of clients on the way: `/request` is judged by its document as all that
comes to the suite's clients; `/request-direct` is between two clients.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest

from support.aimle_client import AimleClient
from support.behaviour import EveryOperation
from support.consumer import Request, fresh, wire
from support.examples import SERVICE
from support.world import World

Json = Any

API = "Aimles_AimlTaskTransfer"
OPERATIONS = ("AimlTtAssist", "CtldAimlTt")
HOUR = timedelta(hours=1)


def task(source: AimleClient, operation: str, now: datetime, service: str = SERVICE) -> Json:
    """A right request of the source for help with a training; what there is to do is known, and valid for an hour."""
    window = {"startTime": wire(now), "stopTime": wire(now + HOUR)}
    body = {
        "requestorId": {"valUeId": source.name},
        "aimlTaskType": "MODEL_TRAINING",
        "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
        "timeValidity": window,
    }
    if operation == "CtldAimlTt":
        return {**body, "aimlTaskTransferTime": window}
    rest = {"reqRmngTrainIterNum": 10}
    return {**body, "valServiceId": service, "aimlRmngTrainReq": rest, "aimlImdInfo": {"usedTrainIterNum": 5}}


class TestEveryOperation(EveryOperation):
    """Of this API; whether a task can be moved is for the server to say."""

    api = API
    may_be_refused = OPERATIONS

    def request(self, name: str, world: World) -> Request:
        """By a client, with another one that could take its task."""
        source, target = world.registered_client(), world.client()
        target.dataset = source.dataset
        target.register(world.val)
        return Request(task(source, name, world.val.now()))


def pair(world: World, service: str, **changes: Json) -> tuple[AimleClient, AimleClient]:
    """Two clients for a VAL service that nobody else serves; `changes` are of the second one's profile."""
    source, target = world.client(), world.client()
    source.register(world.val, service=service)
    target.register(world.val, service=service, **changes)
    return source, target


def test_assistance_names_who_was_asked(world: World) -> None:
    """The target is a client that has agreed, and was told whose task it is, of which type (8.6.2.1, 8.6.2.2)."""
    service = fresh("service")
    source, target = pair(world, service)
    answer = world.val.call(API, "AimlTtAssist", task(source, "AimlTtAssist", world.val.now(), service))
    assert answer.status == 200, answer
    assert answer.body["targetAimlIds"] == [{"valUeId": target.name}], answer
    [asked] = target.tasks
    assert asked["sourceAimlId"] == {"valUeId": source.name}
    assert asked["aimlTaskType"] == "MODEL_TRAINING"
    assert asked["aimlInfoType"] == "INTERMEDIATE_AIML_OP_STATUS"
    assert source.tasks == []


def test_assistance_is_for_the_time_of_the_request(world: World) -> None:
    """The window of the answer lies within the validity of the request."""
    service = fresh("service")
    source, _ = pair(world, service)
    body = task(source, "AimlTtAssist", world.val.now(), service)
    answer = world.val.call(API, "AimlTtAssist", body)
    assert answer.status == 200, answer
    window, valid = answer.body["assistanceTime"], body["timeValidity"]
    first, last = (datetime.fromisoformat(window[name]) for name in ("startTime", "stopTime"))
    assert first < last, answer
    assert last <= datetime.fromisoformat(valid["stopTime"]), answer


@pytest.mark.parametrize("why", ["it refuses", "another operation"])
def test_no_target(world: World, why: str) -> None:
    """Without anybody who can and agrees there is no assistance: an error, no empty list."""
    service = fresh("service")
    changes = {"aimlOperations": ["MODEL_INFERENCE"]} if why == "another operation" else {}
    source, target = pair(world, service, **changes)
    target.takes = False
    answer = world.val.call(API, "AimlTtAssist", task(source, "AimlTtAssist", world.val.now(), service))
    assert answer.status in (403, 404, 409, 503), answer
    assert len(target.tasks) == (why == "it refuses")


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_task_of_somebody_elses_client(world: World, name: str) -> None:
    """Who is not the client's owner cannot have its tasks moved: 403 or 404, and nobody is asked."""
    other = world.other
    service = fresh("service")
    source, target = pair(world, service)
    answer = other.call(API, name, task(source, name, world.val.now(), service))
    assert answer.status in (403, 404), answer
    assert target.tasks == []

"""Aimlec_AimlTaskTransfer (TS 24.560; TS 23.482 8.6): an AIMLE client is asked to go on with another one's task.

Here the AIMLE client at `--aimle-client-url` is judged: by the server's request, and by another client's. What the
server sends to clients on the way is judged in `test_task_transfer.py`.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest

from support.behaviour import EveryOperation
from support.consumer import Request, fresh, wire
from support.world import World

Json = Any

API = "Aimlec_AimlTaskTransfer"
OPERATIONS = ("AimlTaskTransf", "DirAimlTaskTransf")
HOUR = timedelta(hours=1)


@pytest.fixture
def world(world: World) -> World:
    """As everywhere, but who is called is the AIMLE client."""
    return world.at_the_client(API)


def task(name: str, world: World) -> Json:
    """A right request of the operation for a training of a client that nobody knows, valid for an hour."""
    now = world.val.now()
    window = {"startTime": wire(now), "stopTime": wire(now + HOUR)}
    source = {"valUeId": fresh("ue")}
    by_server = {"requestorId": fresh("server"), "sourceAimlId": source}
    return {
        **(by_server if name == "AimlTaskTransf" else {"requestorId": source}),
        "aimlTaskType": "MODEL_TRAINING",
        "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
        "aimlTaskTransferTime": window,
        "timeValidity": window,
    }


class TestEveryOperation(EveryOperation):
    """Of this API; whether it takes a task is for the client to say."""

    api = API
    may_be_refused = OPERATIONS

    def request(self, name: str, world: World) -> Request:
        """For a task of which the client has not heard before."""
        return Request(task(name, world))


def test_agreement_says_when(world: World) -> None:
    """A client that agrees with a body says from when until when it takes the task, also if it was not asked for that.

    TS 24.560: aimlTaskTransferTime shall be present, although it is not mandatory.
    """
    body = task("AimlTaskTransf", world)
    del body["aimlTaskTransferTime"]
    answer = world.val.call(API, "AimlTaskTransf", body)
    if answer.status != 200:
        pytest.skip(f"not applicable: the client answers {answer.status}")
    window = answer.body.get("aimlTaskTransferTime")
    assert window is not None, answer
    assert datetime.fromisoformat(window["startTime"]) < datetime.fromisoformat(window["stopTime"]), answer


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_time_that_is_none(world: World, name: str) -> None:
    """400."""
    right = task(name, world)
    for attribute in ("aimlTaskTransferTime", "timeValidity"):
        window = {**right[attribute], "stopTime": "tomorrow"}
        answer = world.val.call(API, name, {**right, attribute: window})
        assert answer.status == 400, answer

"""AIMLES_MLModelTraining (TS 29.482 6.1.3; TS 23.482 8.3, 8.12): trainings by AIMLE clients."""

from typing import Any

import pytest

from support.aimle_client import AimleClient
from support.behaviour import EveryOperation
from support.consumer import Request, fresh
from support.examples import OPERATIONS
from support.exchange import Exchange
from support.listener import Inbox
from support.world import World

Json = Any

API = "AIMLES_MLModelTraining"


def order(world: World, *clients: AimleClient, **changes: Json) -> Json:
    """A TrainRequest for one pass over the clients' data."""
    where = {"mlModelId": fresh("model"), "mlModelLoc": {"uri": world.listener.file(world.model)}}
    return {
        "trnType": "TRAIN_HFL",
        "members": [client.name for client in clients],
        "modelInf": where,
        "trainObj": {"objType": "ACCURACY", "maxEpochs": 1},
        "datasetId": [client.dataset for client in clients],
    } | changes


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """With a new client."""
        return Request(order(world, world.registered_client()))


@pytest.mark.parametrize("left_out", ["members", "modelInf"])
def test_what_is_needed_one_way_or_another(world: World, left_out: str) -> None:
    """Neither members nor a set nor criteria, or neither a model nor requirements: 400 (6.1.8.6.2.2)."""
    body = order(world, world.registered_client())
    del body[left_out]
    answer = world.val.call(API, "RequestTrain", body)
    assert answer.status == 400, answer


@pytest.mark.parametrize("empty", ["memSelCrit", "modelInf"])
def test_what_says_nothing(world: World, empty: str) -> None:
    """Criteria without a criterion, or a model without identifier and location: 400 (6.1.8.6.2.4, 6.1.8.6.2.5)."""
    body = order(world, world.registered_client(), **{empty: {}})
    answer = world.val.call(API, "RequestTrain", body)
    assert answer.status == 400, answer


def test_member_updates_need_an_address(world: World) -> None:
    """`memUpdNotif` without `notifUri`: 400 (6.1.8.6.2.2)."""
    body = order(world, world.registered_client(), memUpdNotif=True)
    answer = world.val.call(API, "RequestTrain", body)
    assert answer.status == 400, answer


def test_members_beside_criteria(world: World) -> None:
    """At least one of `members` and `memSelCrit` is there, so both may be (6.1.8.6.2.2)."""
    capability = {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"}
    both = {"memSelCrit": {"clientCapability": capability}, "numReqClients": 1}
    answer = world.val.call(API, "RequestTrain", order(world, world.registered_client(), **both))
    assert answer.status == 200, answer


def test_round_of_horizontal_federated_learning(world: World) -> None:
    """Every member gets the model and a subscription and trains; the VAL server hears of the end (8.3.3.3)."""
    members = [world.registered_client(), world.registered_client()]
    inbox = world.inbox(API, "RequestTrain")
    answer = world.val.call(API, "RequestTrain", order(world, *members, notifUri=inbox.uri))
    assert answer.status == 200, answer
    for member in members:
        member.wait(lambda one: bool(one.rounds), "being asked to train")
        assert member.rounds[0]["dataId"] == member.dataset
    inbox.wait(lambda body: body.get("percentageComp") == 100)
    assert_notifications(inbox, answer)


def test_end_of_a_stopped_training_is_notified(world: World) -> None:
    """A training that is stopped at all its members (8.20) ends, and what is said of it is as documented."""
    member, inbox = world.registered_client(), world.inbox(API, "RequestTrain")
    member.trains = False
    answer = world.val.call(API, "RequestTrain", order(world, member, notifUri=inbox.uri))
    assert answer.status == 200, answer
    member.wait(lambda one: bool(one.subscriptions), "being asked to train")
    training = {"trainingId": answer.body["trainingId"]}
    stop = {"clients": [member.name], "operId": training, "operMode": "STOP"}
    stopped = world.val.call(OPERATIONS, "Request", stop)
    assert stopped.status == 200, stopped
    inbox.wait()
    assert_notifications(inbox, answer)


def test_members_are_announced(world: World) -> None:
    """With `memUpdNotif` the VAL server hears who was selected (8.3.3.3)."""
    member, inbox = world.registered_client(), world.inbox(API, "RequestTrain")
    body = order(world, member, notifUri=inbox.uri, memUpdNotif=True)
    answer = world.val.call(API, "RequestTrain", body)
    assert answer.status == 200, answer
    heard = inbox.wait(lambda body: bool(body.get("members")))
    assert [one.get("clientUri") for one in heard["members"] if one.get("clientSel")] == [member.uri], heard
    assert_notifications(inbox, answer)


def assert_notifications(inbox: Inbox, answer: Exchange) -> None:
    """Each is about this training, and says one of the things that it is for (6.1.8.6.2.3)."""
    for body in inbox.bodies:
        assert body.get("trainingID", answer.body["trainingId"]) == answer.body["trainingId"], body
        assert body.keys() & {"members", "trainOut", "trainErr"}, body


def test_vertical_training_is_begun_or_refused(world: World) -> None:
    """What a server does not support it says: an error with a ProblemDetails."""
    body = order(world, world.registered_client(), trnType="TRAIN_VFL", vflParam={"dataLabels": ["y"]})
    answer = world.val.call(API, "RequestTrain", body)
    assert answer.status == 200 or answer.status >= 400, answer


def test_training_of_somebody_else_is_not_stopped(world: World) -> None:
    """Its id gives nobody else a hold on it: 403, or 404 as if there were none."""
    other = world.other
    member = world.registered_client()
    answer = world.val.call(API, "RequestTrain", order(world, member))
    assert answer.status == 200, answer
    training = {"trainingId": answer.body["trainingId"]}
    stop = {"clients": [member.name], "operId": training, "operMode": "STOP"}
    refused = other.call(OPERATIONS, "Request", stop)
    assert refused.status in (403, 404), refused
    stopped = world.val.call(OPERATIONS, "Request", stop)
    assert stopped.status == 200, stopped

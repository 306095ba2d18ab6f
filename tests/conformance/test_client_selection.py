"""AIMLES_AIMLEClientSelection (TS 29.482 6.1.7; TS 23.482 8.9, 8.13): clients that agree become a client set."""

from typing import Any

from support.aimle_client import AimleClient
from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request, fresh
from support.examples import REGISTRATION, SELECTION, SERVICE, criteria
from support.exchange import Exchange
from support.world import World

Json = Any

API = SELECTION


class TestOperations(EveryOperation, Lifecycle):
    """Of this API, and of selection subscriptions."""

    api = API
    collection = "/subscriptions"
    optional = ("reqNum", 2)

    def request(self, name: str, world: World) -> Request:
        """For clients that there are."""
        client = world.registered_client()
        if name == "Select":
            return Request({"valSvcId": SERVICE, "clients": [client.name]})
        uri = world.inbox(API, "CreateAimleClSelSubscription").uri
        subscription = {"selCriteria": criteria(client.dataset), "reqNum": 1, "notifUri": uri}
        if name == "CreateAimleClSelSubscription":
            return Request(subscription)
        made = world.val.call(API, "CreateAimleClSelSubscription", subscription)
        assert made.status == 201, made
        bodies = {"UpdateIndAimleClSelSubscription": {**subscription, "reqNum": 2}}
        bodies["ModifyIndAimleClSelSubscription"] = {"reqNum": 3}
        return Request(bodies.get(name), variables={"subscriptionId": made.location})


def pair(world: World) -> tuple[AimleClient, AimleClient]:
    """Two registered clients with the same data set."""
    first, second = world.registered_client(), world.client()
    second.dataset = first.dataset
    second.register(world.val)
    return first, second


def select(world: World, body: Json) -> Exchange:
    """Have clients selected."""
    answer = world.val.call(API, "Select", body)
    assert answer.status == 200, answer
    return answer


def chosen(answer: Exchange) -> set[str] | None:
    """Who was selected; None: the answer names the set only, as it may."""
    return set(answer.body["clients"]) if "clients" in answer.body else None


def test_named_clients_are_asked_and_selected(world: World) -> None:
    """Each is asked to join the set that the answer names (8.10)."""
    clients = pair(world)
    answer = select(world, {"valSvcId": SERVICE, "clients": [client.name for client in clients]})
    assert chosen(answer) in (None, {client.name for client in clients}), answer
    for client in clients:
        client.wait(lambda one: bool(one.participations), "being asked to join")
        [asked] = client.participations
        assert asked["clientSetPart"] == "JOIN", asked
        assert asked["clientSetId"] == answer.body.get("clientSet", asked["clientSetId"]), answer


def test_clients_are_selected_by_criteria(world: World) -> None:
    """As many as were asked for, of those that meet the criteria."""
    clients = pair(world)
    answer = select(world, {"selCriteria": criteria(clients[0].dataset), "reqNum": 1})
    names = chosen(answer)
    assert names is None or (len(names) == 1 and names < {client.name for client in clients}), answer


def test_client_that_refuses_is_not_selected(world: World) -> None:
    """The set is made of those that agreed."""
    willing, unwilling = pair(world)
    unwilling.joins = False
    answer = select(world, {"selCriteria": criteria(willing.dataset), "reqNum": 2, "minNum": 1})
    assert chosen(answer) in (None, {willing.name}), answer


def test_too_few_clients_are_no_set(world: World) -> None:
    """Fewer than `minNum`: an error (8.9)."""
    willing, unwilling = pair(world)
    unwilling.joins = False
    body = {"selCriteria": criteria(willing.dataset), "reqNum": 2, "minNum": 2}
    answer = world.val.call(API, "Select", body)
    assert 400 <= answer.status < 500, answer


def test_unknown_clients_are_not_selected(world: World) -> None:
    """Nobody to select: an error, or an answer without clients."""
    answer = world.val.call(API, "Select", {"valSvcId": SERVICE, "clients": [fresh("ue")]})
    assert 400 <= answer.status < 500 or (answer.status == 200 and not answer.body.get("clients")), answer


def test_clients_and_criteria_exclude_each_other(world: World) -> None:
    """Exactly one of both is given: otherwise 400."""
    client = world.registered_client()
    for body in ({}, {"clients": [client.name], "selCriteria": criteria(client.dataset)}):
        answer = world.val.call(API, "Select", body)
        assert answer.status == 400, answer


def test_change_of_the_selection_is_notified(world: World) -> None:
    """A selected client that leaves is replaced, and the subscriber hears by whom (8.13)."""
    first, inbox = world.client(), world.inbox(API, "CreateAimleClSelSubscription")
    registration = {"registrationId": first.register(world.val)}
    subscription = {"selCriteria": criteria(first.dataset), "reqNum": 1, "notifUri": inbox.uri}
    made = world.val.call(API, "CreateAimleClSelSubscription", subscription)
    assert made.status == 201, made
    first.wait(lambda it: bool(it.participations or inbox.bodies), "is selected")
    second = world.client()
    second.dataset = first.dataset
    second.register(world.val)
    left = world.val.call(REGISTRATION, "DelAimleClientReg", variables=registration)
    assert left.status == 204, left
    update = {"replaced": first.name, "selected": second.name}
    inbox.wait(lambda body: update in body["reports"])

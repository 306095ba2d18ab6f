"""MLR_FLEvents (TS 29.482 6.2.3; TS 23.482 8.5): what happens to FL members."""

from datetime import timedelta
from typing import Any

from support.behaviour import SHORT, EveryOperation, Lifecycle
from support.consumer import Request, fresh, wire
from support.examples import model
from support.listener import Inbox
from support.world import World

Json = Any

API = "MLR_FLEvents"
MEMBERS = "MLR_FLMember"

WHOLE_DAY = {"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "23:59:59Z"}
CAPABILITY = {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"}


def subscription(world: World, inbox: Inbox, available: str = "AVAILABLE", **changes: Json) -> Json:
    """An FlEvtsSub to FL clients for a new model, for an hour."""
    now = world.val.now()
    return {
        "flMbrInfo": {"flMbrType": "FL_CLIENT"},
        "notifUri": inbox.uri,
        "mlMdlInfo": model(),
        "evtInfo": {
            "evtType": {
                "availFlMbr": available,
                "flMdlInfo": {"accuracy": 50, "timeSchedule": [WHOLE_DAY], "latency": 100},
                "flMbrLdInfo": 50,
            }
        },
        "timeValidity": {"startTime": wire(now), "stopTime": wire(now + timedelta(hours=1))},
    } | changes


class TestOperations(EveryOperation, Lifecycle):
    """Of this API, and of subscriptions to FL events."""

    api = API
    collection = "/subscriptions"

    def request(self, name: str, world: World) -> Request:
        """For a new subscription to all clients of a model."""
        body = subscription(world, world.inbox(API, "SubFLEvents"))
        if name == "SubFLEvents":
            return Request(body)
        made = subscribed(world, body)
        other = {"flMbrInfo": {"flMbrType": "FL_SERVER"}}
        bodies = {"UpdateFLEvents": {**body, **other}, "ModifyPartiallyFLEvents": other}
        return Request(bodies.get(name), variables={"subscriptionId": made})


def subscribed(world: World, body: Json) -> str:
    """A new subscription's identifier."""
    made = world.val.call(API, "SubFLEvents", body)
    assert made.status == 201, made
    return made.location


def registered(world: World, name: str) -> str:
    """A new FL member's configuration."""
    member = {
        "flMbrId": name,
        "flMbrSuppGrp": {"flGroupId": "conformance-group"},
        "suppAimlRole": "FL_CLIENT",
        "flMbrCapability": CAPABILITY,
    }
    made = world.val.call(MEMBERS, "RegisterFLMember", member)
    assert made.status == 201, made
    return made.location


def has_moved(body: Json, name: str, how: str) -> bool:
    """Whether a notification says that a member enters or leaves."""
    return any(
        content["flMbrInfo"].get("flMbrId") == name and content.get("flMbrEnterLeave") == how
        for content in body["evtContentList"]
    )


def test_member_that_enters_is_notified(world: World) -> None:
    """Who has subscribed by a member's name or type hears that it is there (8.5.3a)."""
    name = fresh("member")
    inboxes = []
    for whom in ({"flMbrId": name}, {"flMbrType": "FL_CLIENT"}):
        inbox = world.inbox(API, "SubFLEvents")
        subscribed(world, subscription(world, inbox, flMbrInfo=whom))
        inboxes.append(inbox)
    registered(world, name)
    for inbox in inboxes:
        inbox.wait(lambda body: has_moved(body, name, "ENTERING"))


def test_member_that_leaves_is_notified(world: World) -> None:
    """Who has subscribed to unavailability hears that a member has deregistered."""
    name, inbox = fresh("member"), world.inbox(API, "SubFLEvents")
    first = world.inbox(API, "SubFLEvents")
    configuration = registered(world, name)
    subscribed(world, subscription(world, first, flMbrInfo={"flMbrId": name}))
    subscribed(world, subscription(world, inbox, "UNAVAILABLE", flMbrInfo={"flMbrId": name}))
    first.wait(lambda body: has_moved(body, name, "ENTERING"))
    left = world.val.call(MEMBERS, "DeleteFLMember", variables={"configurationId": configuration})
    assert left.status == 204, left
    inbox.wait(lambda body: has_moved(body, name, "LEAVING"))


def test_time_of_validity_that_is_over(world: World) -> None:
    """From its stopTime on a subscription is gone (table 8.5.5.2-1)."""
    now = world.val.now()
    validity = {"startTime": wire(now), "stopTime": wire(now + SHORT)}
    body = subscription(world, world.inbox(API, "SubFLEvents"), timeValidity=validity)
    made = subscribed(world, body)
    world.val.wait_until(now + SHORT)
    gone = world.val.call(API, "RetrieveFLEvents", variables={"subscriptionId": made})
    assert gone.status == 404, gone

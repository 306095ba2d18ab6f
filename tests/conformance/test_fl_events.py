"""MLR_FLEvents (TS 29.482 6.2.3; TS 23.482 8.5): what happens to FL members."""

from datetime import timedelta

from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request, wire
from support.examples import model
from support.world import World

API = "MLR_FLEvents"


def request(name: str, world: World) -> Request:
    """For a new subscription to all clients of a model."""
    now = world.val.now()
    schedule = [{"daysOfWeek": [1], "timeOfDayStart": "08:00:00Z", "timeOfDayEnd": "09:00:00Z"}]
    subscription = {
        "flMbrInfo": {"flMbrType": "FL_CLIENT"},
        "notifUri": world.inbox(API, "SubFLEvents").uri,
        "mlMdlInfo": model(),
        "evtInfo": {
            "evtType": {
                "availFlMbr": "AVAILABLE",
                "flMdlInfo": {"accuracy": 50, "timeSchedule": schedule, "latency": 100},
                "flMbrLdInfo": 50,
            }
        },
        "timeValidity": {"startTime": wire(now), "stopTime": wire(now + timedelta(hours=1))},
    }
    if name == "SubFLEvents":
        return Request(subscription)
    made = world.val.call(API, "SubFLEvents", subscription)
    assert made.status == 201, made
    other = {"flMbrInfo": {"flMbrType": "FL_SERVER"}}
    bodies = {"UpdateFLEvents": {**subscription, **other}, "ModifyPartiallyFLEvents": other}
    return Request(bodies.get(name), variables={"subscriptionId": made.location})


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return request(name, world)


class TestSubscription(Lifecycle):
    """Of subscriptions to FL events."""

    api = API
    collection = "/subscriptions"

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return request(name, world)

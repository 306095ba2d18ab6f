"""FL events: what is news, compared with what was told, and how it is said."""

from typing import Any

import pytest

from aimle_server.procedures.fl_events import AVAILABILITY, EVENTS, LOAD, MODEL, Event, Found, events_of
from aimle_server.procedures.fl_events import notification as notification_of
from aimle_server.procedures.fl_members import Entry, Member
from schemas.fl_events import FlEvtsNotif
from tests.support import START
from tests.support_fl_events import ENTERING, LEAVING, event, subscription
from tests.support_fl_members import CAPABILITY

BY_NAME = {event.name: event for event in EVENTS}
BODY = subscription(evtInfo=event(accuracy=80, flMbrLdInfo=50))


def there(*names: str, **what: Any) -> Found:
    """These members are available, with the attributes of an Entry; and what else there is."""
    entry = Entry("FL_CLIENT", {}, **what.pop("entry", {}))
    members = {name: Member(name, (entry,)) for name in names}
    return Found(START, members, what.get("models", {}), what.get("loads", {}))


def told(which: Event, before: Found, now: Found, body: Any = BODY) -> list[dict[str, Any]]:
    """The news of an event for who was told of what there was before; they make a valid notification."""
    contents = which.news(body, which.remember(body, before), now)
    assert not contents or not FlEvtsNotif().validate(notification_of(body, which.name, contents, START))
    return contents


def moves(contents: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """Who, and how."""
    return [(content["flMbrInfo"]["flMbrId"], content.get("flMbrEnterLeave")) for content in contents]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ((), ("a",), [("a", ENTERING)]),
        (("a",), (), [("a", LEAVING)]),
        (("a", "b"), ("b", "c"), [("a", LEAVING), ("c", ENTERING)]),
        (("a",), ("a",), []),
    ],
)
def test_who_enters_and_leaves(before: Any, now: Any, expected: Any) -> None:
    """Old and new list are compared, so both are told of; of those that leave alone where only these are wanted."""
    assert moves(told(BY_NAME[AVAILABILITY], there(*before), there(*now))) == expected
    leaving = subscription(evtInfo=event(availFlMbr="UNAVAILABLE"))
    only = told(BY_NAME[AVAILABILITY], there(*before), there(*now), leaving)
    assert moves(only) == [one for one in expected if one[1] == LEAVING]


def test_another_capability() -> None:
    """It is told once, with the new one; a capability that is not stated any more is none to tell."""
    other = {**CAPABILITY, "rsrcUsageLvl": "PREMIUM_RESOURCE_USAGE"}
    without, one, another = (
        there("a", entry={"capability": capability}) for capability in (None, CAPABILITY, other)
    )
    which = BY_NAME[AVAILABILITY]
    [content] = told(which, one, another)
    assert content["flMbrCapabilityUpdated"] == other
    assert "flMbrEnterLeave" not in content
    assert len(told(which, without, one)) == 1
    assert told(which, one, without) == told(which, one, one) == []


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {"m": 79.9}, []),
        ({}, {"m": 80.0, "n": 10.0}, ["m"]),
        ({"m": 79.9}, {"m": 80.0}, ["m"]),
        ({"m": 85.0}, {"m": 85.0}, []),
        ({"m": 85.0}, {"m": 82.0}, ["m"]),
        ({"m": 85.0}, {"m": 20.0}, []),
        ({"m": 85.0}, {}, []),
    ],
)
def test_models(before: dict[str, float], now: dict[str, float], expected: list[str]) -> None:
    """Those that have come to the accuracy, and those above it that have another one."""
    news = told(BY_NAME[MODEL], there(models=before), there(models=now))
    assert [content["aimle"] for content in news] == [
        {"mlModelId": name, "accuracy": now[name]} for name in expected
    ]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {"a": 49}, []),
        ({}, {"a": 50}, ["a"]),
        ({"a": 49}, {"a": 50, "b": 99}, ["a", "b"]),
        ({"a": 50}, {"a": 100}, []),
        ({"a": 50}, {"a": 49}, ["a"]),
        ({"a": 50}, {}, []),
    ],
)
def test_loads(before: dict[str, int], now: dict[str, int], expected: list[str]) -> None:
    """Those that have crossed the threshold, either way; a load that is not known is told of nobody."""
    news = told(BY_NAME[LOAD], there(*before, loads=before), there("a", "b", loads=now))
    assert [(content["flMbrInfo"]["flMbrId"], content["aimle"]["load"]) for content in news] == [
        (name, now[name]) for name in expected
    ]


def test_a_threshold_of_nothing() -> None:
    """Every load is at least 0, so it is told once, when it is first known."""
    body = subscription(evtInfo=event(flMbrLdInfo=0))
    assert len(told(BY_NAME[LOAD], there("a"), there("a", loads={"a": 0}), body)) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, [AVAILABILITY, MODEL, LOAD]),
        ("my own", [AVAILABILITY, MODEL, LOAD]),
        (AVAILABILITY, [AVAILABILITY]),
        (MODEL, [MODEL]),
        (LOAD, [LOAD]),
    ],
)
def test_which_events(name: str | None, expected: list[str]) -> None:
    """One that is named, else all; a notification has the name that was given, else the event's."""
    body = subscription(evtInfo=event(name))
    assert [which.name for which in events_of(body)] == expected
    assert notification_of(body, LOAD, [], START)["evtId"] == (name or LOAD)

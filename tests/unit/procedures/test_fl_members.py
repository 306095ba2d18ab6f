"""One view of FL members and AIMLE clients: who is wanted, who is available, and until when."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from aimle_server.procedures.fl_members import Entry, Member, Wanted
from sbi.clock import to_wire
from tests.support import START
from tests.support_clients import SERVICE, reg_info
from tests.support_fl_events import ANY_MODEL, CLIENTS, event, subscription
from tests.support_fl_members import fl_mbr

HOUR = timedelta(hours=1)
NIGHT = [{"timeOfDayStart": "22:00:00Z", "timeOfDayEnd": "06:00:00Z"}]
MORNING = [{"timeOfDayStart": "06:00:00Z", "timeOfDayEnd": "10:00:00Z"}]
EARLY = [{"timeOfDayStart": "05:00:00Z", "timeOfDayEnd": "10:00:00Z"}]


def member(**statements: Any) -> Entry:
    """Of an FlMbr that is stated now."""
    return Entry.of_member(fl_mbr("one", **statements), START)


def client(**profile: Any) -> Entry:
    """Of an AIMLE client's profile."""
    return Entry.of_profile(reg_info("one", **profile)["suppProfiles"][0])


def validity(begins: timedelta, ends: timedelta) -> dict[str, str]:
    """A TimeWindow from START on."""
    return {"startTime": to_wire(START + begins), "stopTime": to_wire(START + ends)}


@pytest.mark.parametrize(
    ("entry", "available", "changes"),
    [
        (member(), True, None),
        (client(), True, None),
        (member(flMbrAvailSch=NIGHT), True, START + 6 * HOUR),
        (client(availTimeSchedCfgs=NIGHT), True, START + 6 * HOUR),
        (client(availTimeSchedCfgs=MORNING), False, START + 6 * HOUR),
        (client(unavblTimeSchedCfgs=MORNING), True, START + 6 * HOUR),
        (client(unavblTimeSchedCfgs=NIGHT), False, START + 6 * HOUR),
        (member(timeValidity=validity(-HOUR, HOUR)), True, START + HOUR),
        (member(timeValidity=validity(HOUR, 2 * HOUR)), False, START + HOUR),
        (member(timeValidity=validity(-HOUR, HOUR), flMbrAvailSch=NIGHT), True, START + HOUR),
        (member(timeValidity=validity(7 * HOUR, 99 * HOUR), flMbrAvailSch=NIGHT), False, START + 22 * HOUR),
        (client(availTimeSchedCfgs=NIGHT, unavblTimeSchedCfgs=NIGHT), False, None),
    ],
)
def test_when_an_entry_counts(entry: Entry, available: bool, changes: datetime | None) -> None:
    """Hours and validity count both, and when that changes by itself is known."""
    assert entry.is_available(START) is available
    assert entry.changes(START) == changes


def test_a_member_with_several_entries() -> None:
    """One entry is enough to be available, the last one that ends is its end, and one without an end is none."""
    one, other = member(timeValidity=validity(-HOUR, HOUR)), client(availTimeSchedCfgs=NIGHT)
    both = Member("one", (one, other))
    assert both.is_available(START)
    assert both.until(START) == START + 6 * HOUR
    assert both.changes(START) == START + HOUR
    assert both.entry(START) == one
    assert both.entry(START + 2 * HOUR) == other
    assert not both.is_available(START + 7 * HOUR)
    assert Member("one", (one, member())).until(START) is None


@pytest.mark.parametrize(
    ("changes", "entry", "wanted"),
    [
        ({}, member(), True),
        ({}, client(), True),
        ({}, member(suppAimlRole="FL_SERVER"), False),
        ({"flMbrInfo": {"flMbrId": "one"}}, member(suppAimlRole="FL_SERVER"), True),
        ({"flMbrInfo": {"flMbrId": "one", **CLIENTS}}, member(suppAimlRole="FL_SERVER"), False),
        ({"mlMdlInfo": {"mlModelId": "m"}}, member(), True),
        ({"mlMdlInfo": {"mlModelId": "m"}}, member(supMlModelId=["l", "m"]), True),
        ({"mlMdlInfo": {"mlModelId": "m"}}, member(supMlModelId=["l"]), False),
        ({"mlMdlInfo": ANY_MODEL}, member(supMlModelId=["l"]), True),
        ({"mlMdlInfo": {"mlModelId": "m", "valServiceIds": ["other"]}}, client(), False),
        ({"mlMdlInfo": {"mlModelId": "m", "valServiceIds": ["other", SERVICE]}}, client(), True),
        ({"mlMdlInfo": {"mlModelId": "m", "valServiceIds": ["other"]}}, member(), True),
        ({"evtInfo": event(schedule=MORNING)}, member(flMbrAvailSch=NIGHT), False),
        ({"evtInfo": event(schedule=EARLY)}, member(flMbrAvailSch=NIGHT), True),
        ({"evtInfo": event(schedule=[*MORNING, *NIGHT])}, client(unavblTimeSchedCfgs=MORNING), True),
        ({"evtInfo": event(schedule=MORNING)}, client(unavblTimeSchedCfgs=MORNING), False),
    ],
)
def test_who_is_wanted(changes: dict[str, Any], entry: Entry, wanted: bool) -> None:
    """By type, model, service and the hours of the training; what an entry does not say does not keep it out."""
    assert Wanted.of(subscription(**changes)).admits(entry) is wanted

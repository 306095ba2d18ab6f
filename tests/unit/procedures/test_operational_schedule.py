"""The operational schedule of a training: the two forms that are read, and when a round may begin."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from aimle_server.procedures.schedule import OperationalSchedule
from sbi.errors import InvalidRequest

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
"""A Sunday."""


def opens(text: str, now: datetime = NOON) -> datetime | None:
    """When a round may begin by this `opSchedule`."""
    return OperationalSchedule.of_request({"opSchedule": text}).opens(now)


def test_without_a_schedule_at_once() -> None:
    """No `opSchedule`: a round may begin at any time."""
    assert OperationalSchedule.of_request({}).opens(NOON) == NOON


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOON - timedelta(hours=1), NOON),
        (NOON, NOON),
        (NOON + timedelta(minutes=59), NOON + timedelta(minutes=59)),
        (NOON + timedelta(hours=1), None),
    ],
)
def test_interval(now: datetime, expected: datetime | None) -> None:
    """Before an interval its start, within it now, after it never."""
    assert opens("2026-11-22T13:00:00+01:00/2026-11-22T13:00:00Z", now) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOON, NOON + timedelta(hours=10)),
        (NOON + timedelta(hours=11), NOON + timedelta(hours=11)),
        (NOON + timedelta(hours=14), NOON + timedelta(hours=14)),
        (NOON + timedelta(hours=18), NOON + timedelta(days=7, hours=10)),
    ],
)
def test_weekly_window(now: datetime, expected: datetime) -> None:
    """Sundays from 22:00 to 06:00: open across midnight, then closed for the rest of the week."""
    window = {"daysOfWeek": [7], "timeOfDayStart": "22:00:00", "timeOfDayEnd": "06:00:00"}
    assert opens(json.dumps(window), now) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "0001-01-01T00:00:00+14:00/2026-01-01T00:00:00Z",
        "2026-11-22T12:00:00/2026-11-23T12:00:00",
        "{",
        '{"daysOfWeek": 7}',
    ],
)
def test_refused(text: str) -> None:
    """Anything else is refused, and the attribute is named."""
    with pytest.raises(InvalidRequest) as refused:
        opens(text)
    assert refused.value.invalid_params[0].param.startswith("/opSchedule")

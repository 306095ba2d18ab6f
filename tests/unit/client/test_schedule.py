"""Operational schedules: when a round may begin."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from aimle_client.runtime.schedule import seconds_until_open

WEDNESDAY_NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
HOUR = 3600


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ({}, 0),
        ({"timeOfDayStart": "12:00:00", "timeOfDayEnd": "13:00:00"}, 0),
        ({"timeOfDayStart": "11:00:00", "timeOfDayEnd": "12:00:00"}, 23),
        ({"timeOfDayStart": "18:00:00"}, 6),
        ({"timeOfDayEnd": "08:00:00"}, 12),
        ({"timeOfDayStart": "22:00:00", "timeOfDayEnd": "14:00:00"}, 0),
        ({"timeOfDayStart": "12:00:00+02:00", "timeOfDayEnd": "13:00:00+02:00"}, 22),
        ({"timeOfDayStart": "08:00:00-06:00"}, 2),
        ({"daysOfWeek": [3]}, 0),
        ({"daysOfWeek": [4, 7]}, 12),
        ({"daysOfWeek": [2]}, 6 * 24 - 12),
        ({"daysOfWeek": [3], "timeOfDayStart": "09:00:00", "timeOfDayEnd": "10:00:00"}, 7 * 24 - 3),
        ({"daysOfWeek": [2], "timeOfDayStart": "22:00:00", "timeOfDayEnd": "13:00:00"}, 0),
    ],
)
def test_waiting_time(schedule: dict[str, object], hours: float) -> None:
    """A closed schedule is waited for until it opens next, at most a week; an open one not at all."""
    assert seconds_until_open(schedule, WEDNESDAY_NOON) == hours * HOUR


def test_the_clocks_own_offset_does_not_matter() -> None:
    """The same moment told in another offset gives the same wait."""
    elsewhere = WEDNESDAY_NOON.astimezone(timezone(timedelta(hours=9)))
    assert seconds_until_open({"timeOfDayStart": "18:00:00"}, elsewhere) == 6 * HOUR

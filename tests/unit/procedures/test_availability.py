"""Weekly schedules: days, times with offsets, windows over midnight and over the end of the week."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aimle_server.procedures.availability import (
    available_until,
    covers_schedule,
    covers_window,
    is_available,
    next_available,
)

MONDAY = datetime(2030, 1, 7, tzinfo=UTC)


def at(day: int, hour: float) -> datetime:
    """A moment of the week that starts on MONDAY; day 1 is Monday."""
    return MONDAY + timedelta(days=day - 1, hours=hour)


def window(start: str | None, end: str | None, *days: int) -> dict[str, Any]:
    parts = {"timeOfDayStart": start, "timeOfDayEnd": end, "daysOfWeek": list(days) or None}
    return {name: value for name, value in parts.items() if value is not None}


def available(*windows: dict[str, Any], but: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return ({"availTimeSchedCfgs": list(windows)} if windows else {}) | (
        {"unavblTimeSchedCfgs": but} if but else {}
    )


@pytest.mark.parametrize(
    ("profile", "moment", "expected"),
    [
        (available(), at(3, 4), True),
        (available(window("08:00:00", "18:00:00")), at(2, 8), True),
        (available(window("08:00:00", "18:00:00")), at(2, 18), False),
        (available(window("08:00:00", "18:00:00", 1, 2)), at(2, 12), True),
        (available(window("08:00:00", "18:00:00", 1, 2)), at(3, 12), False),
        (available(window(None, None, 7)), at(7, 23.9), True),
        (available(window(None, None, 7)), at(1, 0), False),
        (available(window("22:00:00", "06:00:00", 5)), at(6, 5), True),
        (available(window("22:00:00", "06:00:00", 5)), at(5, 5), False),
        (available(window("22:00:00", "06:00:00", 7)), at(1, 5), True),
        (available(window("20:15:00-08:00", "22:15:00-08:00", 1)), at(2, 5), True),
        (available(window("20:15:00-08:00", "22:15:00-08:00", 1)), at(1, 21), False),
        (available(window("01:00:00+02:00", "03:00:00+02:00", 1)), at(7, 23.5), True),
        (available(window("22:00:00Z", "22:00:00Z", 2)), at(3, 21), True),
        (available(window("12:00:00", None)), at(4, 23.9), True),
        (available(but=[window("08:00:00", "18:00:00")]), at(1, 12), False),
        (available(but=[window("08:00:00", "18:00:00")]), at(1, 19), True),
        (available(window("08:00:00", "18:00:00"), but=[window(None, None, 3)]), at(3, 12), False),
    ],
)
def test_available_now(profile: dict[str, Any], moment: datetime, expected: bool) -> None:
    """A client is available when a stated window (or none stated) holds the moment and no exception does."""
    assert is_available(profile, moment) is expected


@pytest.mark.parametrize(
    ("profile", "wanted", "expected"),
    [
        (available(), window("00:00:00", "00:00:00"), True),
        (
            available(window("08:00:00", "12:00:00"), window("12:00:00", "18:00:00")),
            window("09:00:00", "17:00:00"),
            True,
        ),
        (
            available(window("08:00:00", "12:00:00"), window("13:00:00", "18:00:00")),
            window("09:00:00", "17:00:00"),
            False,
        ),
        (available(window("22:00:00", "06:00:00")), window("23:00:00", "05:00:00", 7), True),
        (available(window("08:00:00", "18:00:00", 1)), window("09:00:00", "10:00:00"), False),
        (available(but=[window("09:30:00", "09:45:00", 4)]), window("09:00:00", "10:00:00"), False),
        (available(but=[window("09:30:00", "09:45:00", 4)]), window("09:00:00", "10:00:00", 5), True),
    ],
)
def test_requested_windows(profile: dict[str, Any], wanted: dict[str, Any], expected: bool) -> None:
    """Every second of a requested window must be available, on each of its days."""
    assert covers_schedule(profile, [wanted]) is expected


@pytest.mark.parametrize(
    ("profile", "start", "hours", "expected"),
    [
        (available(window("22:00:00", "06:00:00")), at(7, 23), 4, True),
        (available(window("22:00:00", "06:00:00")), at(7, 23), 8, False),
        (available(), at(2, 0), 24 * 30, True),
        (available(but=[window("03:00:00", "03:01:00", 2)]), at(3, 0), 24 * 7, False),
    ],
)
def test_requested_span(profile: dict[str, Any], start: datetime, hours: float, expected: bool) -> None:
    """A span of time is laid on the weekly schedule, over the end of the week and for more than one."""
    assert covers_window(profile, start, start + timedelta(hours=hours)) is expected


@pytest.mark.parametrize(
    ("profile", "moment", "expected"),
    [
        (available(), at(3, 4), at(3, 4)),
        (available(window("22:00:00", "06:00:00", 5)), at(1, 0), at(5, 22)),
        (available(window("22:00:00", "06:00:00", 5)), at(6, 7), at(12, 22)),
        (available(window("08:00:00", "18:00:00", 1), but=[window(None, None, 1)]), at(1, 9), None),
    ],
)
def test_next_available(profile: dict[str, Any], moment: datetime, expected: datetime | None) -> None:
    """The next moment of availability is now, later in this week, in the next one, or never."""
    assert next_available(profile, moment) == expected


@pytest.mark.parametrize(
    ("profile", "moment", "expected"),
    [
        (available(), at(3, 4), None),
        (available(window(None, None)), at(7, 23), None),
        (available(window("08:00:00", "18:00:00")), at(2, 9), at(2, 18)),
        (available(window("22:00:00", "06:00:00", 7)), at(7, 23), at(8, 6)),
        (available(window("22:00:00", "06:00:00", 7)), at(1, 5), at(1, 6)),
        (available(window(None, None, 1, 2, 3)), at(1, 5), at(4, 0)),
        (available(but=[window("08:00:00", "18:00:00", 2)]), at(3, 0), at(9, 8)),
    ],
)
def test_available_until(profile: dict[str, Any], moment: datetime, expected: datetime | None) -> None:
    """The end of the hours that it is in, over the end of a day and of the week; never for one that always is."""
    assert available_until(profile, moment) == expected

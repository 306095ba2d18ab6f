"""When a task may change hands: what requests say, and what availability schedules leave of it (TS 23.482 8.6)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aimle_server.procedures.transfer_window import LENGTH, Window, available_window, wanted_window
from sbi.errors import InvalidRequest

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
"""A Monday."""


def at(minutes: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def wire(start: float, stop: float) -> dict[str, str]:
    """A TimeWindow, in minutes after noon."""
    return Window(at(start), at(stop)).to_wire()


@pytest.mark.parametrize(
    ("body", "start", "stop"),
    [
        ({}, 0, LENGTH.total_seconds() / 60),
        ({"timeValidity": wire(-10, 60)}, 0, 60),
        ({"timeValidity": wire(5, 60)}, 5, 60),
        ({"aimlTaskTransferTime": wire(20, 40)}, 20, 40),
        ({"aimlTaskTransferTime": wire(20, 40), "timeValidity": wire(-10, 30)}, 20, 30),
        ({"aimlTaskTransferTime": wire(-10, 40), "timeValidity": wire(10, 90)}, 10, 40),
    ],
)
def test_a_window_is_what_everything_leaves(body: dict[str, Any], start: float, stop: float) -> None:
    """It lies in the transfer time and in the validity, and does not begin in the past."""
    assert wanted_window(body, NOON) == Window(at(start), at(stop))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"timeValidity": wire(-10, -1)}, "/timeValidity"),
        ({"aimlTaskTransferTime": wire(-10, 0)}, "/aimlTaskTransferTime"),
        ({"aimlTaskTransferTime": wire(0, 10), "timeValidity": wire(10, 20)}, "/timeValidity"),
        ({"timeValidity": {"startTime": wire(5, 6)["stopTime"], "stopTime": wire(5, 6)["startTime"]}}, "/timeValidity"),
    ],
)  # fmt: skip
def test_a_window_without_time_is_refused(body: dict[str, Any], named: str) -> None:
    """A span that is over, empty or contradicts the other one is named."""
    with pytest.raises(InvalidRequest) as caught:
        wanted_window(body, NOON)
    assert [wrong.param for wrong in caught.value.invalid_params] == [named]


def hours(start: str, end: str) -> dict[str, Any]:
    """A profile of a client that is available daily from one time to another."""
    return {"availTimeSchedCfgs": [{"timeOfDayStart": start, "timeOfDayEnd": end}]}


@pytest.mark.parametrize(
    ("profile", "needed", "found"),
    [
        ({}, 600, (0, 60)),
        (hours("08:00:00Z", "12:30:00Z"), 0, (0, 30)),
        (hours("08:00:00Z", "12:30:00Z"), 20, (0, 10)),
        (hours("08:00:00Z", "12:30:00Z"), 30, None),
        (hours("12:15:00Z", "18:00:00Z"), 60, (15, 60)),
        (hours("13:00:00Z", "18:00:00Z"), 0, None),
        (hours("00:00:00Z", "00:00:00Z"), 100_000, (0, 60)),
    ],
)
def test_a_client_can_begin_when_it_has_time_for_the_rest(
    profile: dict[str, Any], needed: float, found: tuple[float, float] | None
) -> None:
    """It begins within its hours, and early enough before their end to finish."""
    window = available_window(profile, Window(NOON, at(60)), timedelta(minutes=needed))
    assert window == (found and Window(at(found[0]), at(found[1])))

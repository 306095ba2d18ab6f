"""When a client is available: weekly schedules (TS 29.122 ScheduledCommunicationTime) as sets of seconds.

A week runs from Monday 00:00 UTC. A time of day carries its own offset; without one it is UTC. A window
whose end is not after its start ends on the following day, so equal times mean 24 hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

Wire = Mapping[str, Any]
Span = tuple[float, float]
"""From (included) to (excluded), in seconds of the week."""

DAY = 86_400
WEEK = 7 * DAY
ALWAYS: tuple[Span, ...] = ((0, WEEK),)
EVERY_DAY = range(1, 8)
"""DayOfWeek: 1 is Monday."""


def is_available(profile: Wire, moment: datetime) -> bool:
    """Whether an AimleClientProfile's schedules allow `moment`."""
    second = _second_of_week(moment)
    return any(start <= second < end for start, end in _available(profile))


def covers_schedule(profile: Wire, schedules: Iterable[Wire]) -> bool:
    """Whether the client is available throughout every requested ScheduledCommunicationTime."""
    return _covers(_available(profile), _union(schedules))


def meets_schedule(profile: Wire, schedules: Iterable[Wire]) -> bool:
    """Whether the client is available at any time of the requested ScheduledCommunicationTimes."""
    wanted = _union(schedules)
    return any(start < last and first < end for start, end in _available(profile) for first, last in wanted)


def covers_window(profile: Wire, start: datetime, stop: datetime) -> bool:
    """Whether the client is available from `start` to `stop`."""
    if stop - start >= timedelta(seconds=WEEK):
        return _covers(_available(profile), ALWAYS)
    first = _second_of_week(start)
    return _covers(_available(profile), _wrapped(first, first + (stop - start).total_seconds()))


def next_available(profile: Wire, moment: datetime) -> datetime | None:
    """`moment` if the client is available then, else when it next is; None: never."""
    if is_available(profile, moment):
        return moment
    second = _second_of_week(moment)
    waits = [(start - second) % WEEK for start, _ in _available(profile)]
    return moment + timedelta(seconds=min(waits)) if waits else None


def available_until(profile: Wire, moment: datetime) -> datetime | None:
    """Until when a client that is available at `moment` stays so; None: always, or as long as a week at least."""
    second, end = _second_of_week(moment), 0.0
    spans = _available(profile)
    for shift in (0, WEEK):
        for start, stop in spans:
            if start + shift <= max(second, end) < stop + shift:
                end = stop + shift
    return None if end - second >= WEEK else moment + timedelta(seconds=end - second)


def parse_time_of_day(text: str) -> float:
    """Seconds from 00:00 UTC to an RFC 3339 partial-time or full-time; below 0 or over a day by its offset.

    Raises:
        ValueError: it is neither.
    """
    parsed = time.fromisoformat(text)
    offset = parsed.utcoffset() or timedelta()
    local = timedelta(
        hours=parsed.hour, minutes=parsed.minute, seconds=parsed.second, microseconds=parsed.microsecond
    )
    return (local - offset).total_seconds()


def _available(profile: Wire) -> Sequence[Span]:
    """Stated available times, or all of the week, without the stated unavailable ones."""
    stated = profile.get("availTimeSchedCfgs")
    spans = _union(stated) if stated else ALWAYS
    return _without(spans, _union(profile.get("unavblTimeSchedCfgs", ())))


def _spans(schedule: Wire) -> Iterable[Span]:
    start = parse_time_of_day(schedule.get("timeOfDayStart", "00:00:00"))
    end = parse_time_of_day(schedule.get("timeOfDayEnd", "00:00:00"))
    length = (end - start) % DAY or DAY
    for day in schedule.get("daysOfWeek", EVERY_DAY):
        first = (day - 1) * DAY + start
        yield from _wrapped(first, first + length)


def _wrapped(start: float, end: float) -> Iterable[Span]:
    """A span of at most a week, cut where the week ends."""
    length, start = end - start, start % WEEK
    yield start, min(start + length, WEEK)
    if start + length > WEEK:
        yield 0, start + length - WEEK


def _union(schedules: Iterable[Wire]) -> Sequence[Span]:
    """The seconds that any of the schedules names, as sorted spans that do not touch."""
    merged: list[Span] = []
    for start, end in sorted(span for schedule in schedules for span in _spans(schedule)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _without(spans: Iterable[Span], removed: Iterable[Span]) -> Sequence[Span]:
    left = list(spans)
    for cut_start, cut_end in removed:
        left = [
            piece
            for start, end in left
            for piece in ((start, min(end, cut_start)), (max(start, cut_end), end))
            if piece[0] < piece[1]
        ]
    return left


def _covers(available: Sequence[Span], wanted: Iterable[Span]) -> bool:
    return all(any(start <= first and last <= end for start, end in available) for first, last in wanted)


def _second_of_week(moment: datetime) -> float:
    utc = moment.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    return utc.weekday() * DAY + (utc - midnight).total_seconds()

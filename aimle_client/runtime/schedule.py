"""When training may take place: ScheduledCommunicationTime (TS 29.122), the `operSched` of TS 23.482 8.12."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any


def seconds_until_open(schedule: Mapping[str, Any], now: datetime) -> float:
    """Seconds from `now` until the schedule allows work; 0 inside of it.

    Days without hours are whole days, hours without days are those of every day, and hours that end before
    they start reach into the next day. A time without an offset is UTC.
    """
    start = time.fromisoformat(schedule.get("timeOfDayStart", "00:00:00"))
    end = time.fromisoformat(schedule.get("timeOfDayEnd", "00:00:00"))
    days = schedule.get("daysOfWeek", range(1, 8))
    today = now.astimezone(start.tzinfo or UTC).date()
    waits = []
    for offset in range(-1, 8):
        day = today + timedelta(days=offset)
        opens = datetime.combine(day, start, start.tzinfo or UTC)
        closes = datetime.combine(day, end, end.tzinfo or UTC)
        while closes <= opens:
            closes += timedelta(days=1)
        if day.isoweekday() in days and now < closes:
            waits.append(max(0.0, (opens - now).total_seconds()))
    return min(waits)

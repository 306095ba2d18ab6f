"""Time, passed in wherever it is used, so that a test moves it instead of waiting."""

import asyncio
import time
from datetime import UTC, datetime

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The end of what has none."""


class Clock:
    """The system's clock. A test passes a subclass whose time it moves itself."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; unlike `now` it does not jump when somebody sets the system's clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed on this clock."""
        await asyncio.sleep(seconds)


def to_wire(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond: `2026-11-22T10:00:00.000Z` (TS 29.122 DateTime)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_wire(text: str) -> datetime:
    """The moment that an RFC 3339 date-time names, in UTC; ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a date-time needs its offset from UTC")
    return moment.astimezone(UTC)

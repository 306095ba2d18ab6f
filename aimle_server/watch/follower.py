"""Follows what happens in the repository, and marks the subscriptions that it concerns.

One process at a time does this for all. How far it has come is in the database, so its successor misses nothing; what
may have been written late, or by a clock that is behind, is read again.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from ml_repository.subscriptions import Happened, Positions, Subscriptions

LEASE = timedelta(seconds=10)
"""A process that follows and has not been heard of for so long is taken for dead."""

OVERLAP = timedelta(seconds=10)
"""So much is read again each time."""

AT_ONCE = 1000
"""Events whose topics are looked for together: many clients may have come at once."""

Events = Callable[[datetime, datetime], Awaitable[Sequence[Happened]]]
"""(since, now) -> what has happened in between."""


class Follower:
    """Follows one kind of events.

    Args:
        name: of the kind.
        events: reads them.
        holder: names this process.
    """

    def __init__(
        self, name: str, events: Events, subscriptions: Subscriptions, positions: Positions, holder: str
    ) -> None:
        self._name = name
        self._events = events
        self._subscriptions = subscriptions
        self._positions = positions
        self._holder = holder
        self._seen: datetime | None = None  # None: somebody else follows, or nobody
        self._written: datetime | None = None
        self._resting = False
        self._known: set[tuple[str, datetime]] = set()

    async def follow(self, now: datetime) -> None:
        """Mark what is concerned by what has happened up to now."""
        self._resting = False
        if await self._follows(now):
            await self._mark(now)

    async def rest(self, now: datetime) -> None:
        """There are no subscriptions: nobody has to follow."""
        if not self._resting:
            await self._positions.remove(self._name, self._holder, now)
            self._seen, self._written, self._resting = None, None, True

    async def _follows(self, now: datetime) -> bool:
        """Whether it is this process that follows; it says so three times in a lease."""
        if self._written is None or not timedelta() <= now - self._written < LEASE / 3:
            seen = self._seen or now - OVERLAP
            self._seen = await self._positions.claim(self._name, self._holder, seen, now, now + LEASE)
            self._written = None if self._seen is None else now
        return self._seen is not None

    async def _mark(self, now: datetime) -> None:
        assert self._seen is not None  # noqa: S101 - so it follows
        happened = await self._events(self._seen, now)
        new = [event for event in happened if (event.id, event.at) not in self._known]
        for first in range(0, len(new), AT_ONCE):
            events = new[first : first + AT_ONCE]
            await self._subscriptions.concern({topic for event in events for topic in event.topics}, now)
            self._known |= {(event.id, event.at) for event in events}
        self._seen = now - OVERLAP
        self._known = {(name, at) for name, at in self._known if at > self._seen}

"""Follows what AIMLE clients register, and marks the subscriptions that it concerns.

One process at a time does this for all. How far it has come is in the database, so its successor misses nothing; what
may have been written late, or by a clock that is behind, is read again.
"""

from datetime import datetime, timedelta

from ml_repository.registrations import Registrations
from ml_repository.subscriptions import REGISTRATIONS, Positions, Subscriptions

LEASE = timedelta(seconds=10)
"""A process that follows and has not been heard of for so long is taken for dead."""

OVERLAP = timedelta(seconds=10)
"""So much is read again each time."""


class RegistrationFollower:
    """Follows while there are subscriptions; `holder` names this process."""

    def __init__(
        self, subscriptions: Subscriptions, positions: Positions, registrations: Registrations, holder: str
    ) -> None:
        self._subscriptions = subscriptions
        self._positions = positions
        self._registrations = registrations
        self._holder = holder
        self._seen: datetime | None = None  # None: somebody else follows, or nobody
        self._written: datetime | None = None
        self._nobody = False
        self._known: set[tuple[str, datetime]] = set()  # clients, and when they stated something or ended

    async def follow(self, now: datetime) -> None:
        """Mark what is concerned by what has happened up to now."""
        if await self._subscriptions.exist():
            self._nobody = False
            if await self._follows(now):
                await self._mark(now)
        elif not self._nobody:
            await self._positions.remove(REGISTRATIONS, self._holder, now)
            self._seen, self._written, self._nobody = None, None, True

    async def _follows(self, now: datetime) -> bool:
        """Whether it is this process that follows; it says so three times in a lease."""
        if self._written is None or not timedelta() <= now - self._written < LEASE / 3:
            seen = self._seen or now - OVERLAP
            self._seen = await self._positions.claim(REGISTRATIONS, self._holder, seen, now, now + LEASE)
            self._written = None if self._seen is None else now
        return self._seen is not None

    async def _mark(self, now: datetime) -> None:
        assert self._seen is not None  # noqa: S101 - so it follows
        changed = await self._registrations.changed(self._seen)
        ended = await self._registrations.ended(self._seen, now)
        events = [(one, one["_stated"]) for one in changed] + [(one, one["_expires"]) for one in ended]
        for registration, at in events:
            if (registration["_id"], at) not in self._known:
                topics = [f"client:{registration['_id']}", *registration["_tags"]]
                await self._subscriptions.concern(topics, now)
                self._known.add((registration["_id"], at))
        self._seen = now - OVERLAP
        self._known = {(client, at) for client, at in self._known if at > self._seen}

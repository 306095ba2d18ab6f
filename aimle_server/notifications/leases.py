"""The shards of the outbox that this process serves, and how long it may."""

import asyncio
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

from ml_repository.outbox import Outbox
from sbi.clock import Clock


class Leases:
    """Leases on shards, each `seconds` long from when it was claimed or extended."""

    def __init__(self, outbox: Outbox, clock: Clock, seconds: float) -> None:
        self._outbox = outbox
        self._clock = clock
        self._length = timedelta(seconds=seconds)
        self._owner = secrets.token_urlsafe(8)
        self._until: dict[int, datetime] = {}
        self._extending = asyncio.Lock()

    def __contains__(self, shard: int) -> bool:
        """Whether the shard was claimed, and is not known to be lost."""
        return shard in self._until

    async def of_others(self) -> set[int]:
        """The shards that other processes serve now."""
        return await self._outbox.held_by_others(self._owner)

    async def claim(self, shard: int) -> bool:
        """Whether the shard is ours, now if it was nobody's."""
        if shard not in self._until:
            until = self._clock.now() + self._length
            if not await self._outbox.claim(shard, self._owner, until):
                return False
            self._until[shard] = until
        return True

    async def lasts(self, shard: int, seconds: float) -> bool:
        """Whether the shard is ours for so long; if its lease is about to run out, all of ours are extended."""
        wanted = timedelta(seconds=seconds)
        if self._left(shard) < wanted:
            async with self._extending:
                if shard in self._until and self._left(shard) < wanted:
                    await self._extend()
        return self._left(shard) >= wanted

    async def release_all_but(self, used: Collection[int]) -> None:
        """Give back what is not used any more."""
        unused = self._until.keys() - set(used)
        if unused:
            for shard in unused:
                del self._until[shard]
            await self._outbox.release(unused, self._owner)

    def _left(self, shard: int) -> timedelta:
        until = self._until.get(shard)
        return until - self._clock.now() if until else timedelta()

    async def _extend(self) -> None:
        until = self._clock.now() + self._length
        asked = set(self._until)
        ours = await self._outbox.extend(asked, self._owner, until)
        for shard in asked & self._until.keys():
            if shard in ours:
                self._until[shard] = until
            else:
                del self._until[shard]

"""Looks at the subscriptions that are due. Every process looks at some of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from pymongo.errors import PyMongoError

from aimle_server.procedures import reporting
from aimle_server.procedures.subscriptions import Kind
from aimle_server.watch.follower import Follower
from ml_repository.database import translate
from ml_repository.subscriptions import Subscription, Subscriptions
from sbi.clock import Clock

_log = logging.getLogger("aimle.watch")

LOOK_SECONDS = 1.0
"""Between two looks when nothing wakes the watch: other processes write too."""

GATHER_SECONDS = 0.02
"""What happens at about the same time is looked at together."""

AT_ONCE = 16
"""Subscriptions that one process looks at at the same time."""


class Watch:
    """Looks at the subscriptions of all kinds.

    Args:
        followers: mark those that an event concerns.
        kinds: how each is looked at.
        notify: has new notifications delivered.
        longest: a process that looks at a subscription for longer is taken for dead.
        trainings: looks, at a moment, at those that only this process may look at.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        followers: Sequence[Follower],
        kinds: Sequence[Kind],
        clock: Clock,
        notify: Callable[[], None],
        longest: timedelta,
        trainings: Callable[[datetime], Awaitable[None]],
    ) -> None:
        self._subscriptions = subscriptions
        self._longest = longest
        self._trainings = trainings
        self._followers = followers
        self._kinds = {kind.name: kind for kind in kinds}
        self._clock = clock
        self._notify = notify
        self._woken = asyncio.Event()
        self._wanted = False
        self._looking: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is being looked at is looked at again, by another process or after the next start."""
        tasks = [*self._looking, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """This process has written a subscription."""
        self._woken.set()

    def happened(self) -> None:
        """This process has written something that subscriptions may be about; often nobody wants to know."""
        if self._wanted:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            await self._guard(self._round, "subscriptions")
            await self._pause()

    async def _round(self) -> None:
        now = self._clock.now()
        self._wanted = await self._subscriptions.exist()
        for follower in self._followers:
            await (follower.follow(now) if self._wanted else follower.rest(now))
        if self._wanted:
            await self._trainings(now)
        if self._wanted and (free := AT_ONCE - len(self._looking)) > 0:
            for subscription in await self._subscriptions.claim(now, now + self._longest, free):
                self._begin(subscription)

    def _begin(self, subscription: Subscription) -> None:
        async def look() -> None:
            try:
                await self._look(subscription, self._kinds[subscription.kind])
            except asyncio.CancelledError:
                await self._subscriptions.release(subscription)
                raise

        task = asyncio.create_task(self._guard(look, f"subscription {subscription.id}"))
        self._looking.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._looking.discard(task)
        self._woken.set()  # there may be more than could be looked at at once

    async def _pause(self) -> None:
        waits = [
            asyncio.create_task(self._clock.sleep(LOOK_SECONDS)),
            asyncio.create_task(self._woken.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        await asyncio.sleep(GATHER_SECONDS)

    async def _guard(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """What breaks is done again when its claim has run out; the reason is for the log."""
        try:
            await work()
        except Exception as error:
            if isinstance(error, PyMongoError) and translate(error) is not None:
                _log.warning("the database does not answer; %s wait", what)
            else:
                _log.exception("%s cannot be watched", what)

    async def _look(self, subscription: Subscription, kind: Kind) -> None:
        now = self._clock.now()
        if subscription.expires <= now:
            await kind.end(subscription)
            await self._subscriptions.drop(subscription)
            return
        looked, aftermath = await kind.look(subscription)
        told = reporting.told(subscription, looked, now)
        if not await self._subscriptions.save(subscription, looked, told, now):
            await self._subscriptions.release(subscription)
            if aftermath:
                await aftermath.lost()
            return
        if told.notification is not None:
            self._notify()
        if aftermath:
            await aftermath.kept()

"""Delivers what the outbox holds: at least once, in order per stream, and no target waits for another.

A message is forgotten only after its target answered 2xx, so a target can get one twice (its answer was lost,
the process was killed) and tells by the message's content. Any number of processes may dispatch from one
outbox: a stream is served under a lease, which another process takes over when it has run out.
"""

import asyncio
import logging
import random
import secrets
from collections import Counter
from datetime import datetime, timedelta

from aimle_server.notifications.retry import Failure, RetryPolicy
from ml_repository.outbox import Message, Outbox, Pending
from sbi.clock import Clock
from sbi.outbound import Outbound, TargetRefused, TargetUnreachable

_log = logging.getLogger("aimle.notifications")

_LEASE_TIMEOUTS = 3.0
"""A lease lasts as long as this many attempts, and is prolonged before each."""
_SET_BACK = timedelta(seconds=5)
"""A clock that shows less than at the last look, by more than this, was set back."""
_LOOK_AHEAD = 8
"""Due messages looked at, as a multiple of `concurrency`: other processes may be serving the first ones."""


class Dispatcher:
    """Serves each due stream by a task of its own.

    Args:
        outbox: what to deliver.
        outbound: how to call.
        policy: when to try again.
        clock: what is due, and how long to pause.
        rng: jitter.
        concurrency: streams served at once.
        per_origin: streams served at once whose targets have the same scheme, host and port: one that hangs
            occupies no more. More than `outbound` connects at once would wait for a connection until they
            count as failed.
        poll_interval: seconds between two looks at the outbox when nothing wakes the dispatcher.
        timeout: seconds that a target has for its answer.
    """

    def __init__(
        self,
        outbox: Outbox,
        outbound: Outbound,
        policy: RetryPolicy,
        clock: Clock,
        rng: random.Random,
        *,
        concurrency: int = 128,
        per_origin: int = 32,
        poll_interval: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        self._outbox = outbox
        self._outbound = outbound
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._concurrency = concurrency
        self._per_origin = per_origin
        self._poll_interval = poll_interval
        self._timeout = timeout
        self._lease = timeout * _LEASE_TIMEOUTS
        self._owner = secrets.token_urlsafe(8)
        self._woken = asyncio.Event()
        self._stopping = False
        self._looked: datetime | None = None
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._load: Counter[str] = Counter()  # streams being served, by the origin of their targets
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deliver."""
        self._stopping = False
        self._loop = asyncio.create_task(self._run())

    async def stop(self, grace: float = 5.0) -> None:
        """Begin nothing new, let the requests under way finish within `grace` seconds, break off the rest.

        What is broken off is delivered again after the next start, or by another process.
        """
        self._stopping = True
        if self._loop is not None:
            await _cancel(self._loop)
        if self._serving:
            _, late = await asyncio.wait(self._serving.values(), timeout=grace)
            await _cancel(*late)

    def wake(self) -> None:
        """Something was enqueued and committed: look now."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._serve_due()
            except Exception:  # the database is away: the next look may find it back
                _log.exception("the outbox cannot be read")
            await self._pause()

    async def _pause(self) -> None:
        waits = [asyncio.ensure_future(self._clock.sleep(self._poll_interval))]
        waits.append(asyncio.ensure_future(_wait(self._woken)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(*waits)

    async def _serve_due(self) -> None:
        await self._heed_the_clock()
        if len(self._serving) >= self._concurrency:
            return
        busy = [origin for origin, streams in self._load.items() if streams >= self._per_origin]
        due = await self._outbox.due_streams(self._concurrency * _LOOK_AHEAD, busy)
        for stream, origin in due.items():
            if stream not in self._serving and self._has_room_for(origin):
                self._load[origin] += 1
                self._serving[stream] = asyncio.create_task(self._serve(stream, origin))

    async def _heed_the_clock(self) -> None:
        """Have nothing wait for a time that the clock has shown before; whoever is tried too early comes to no harm."""
        now = self._clock.now()
        if self._looked and now < self._looked - _SET_BACK:
            _log.warning("the clock was set back: all notifications are due")
            await self._outbox.make_all_due()
        self._looked = now

    def _has_room_for(self, origin: str) -> bool:
        return len(self._serving) < self._concurrency and self._load[origin] < self._per_origin

    async def _serve(self, stream: str, origin: str) -> None:
        try:
            if not await self._outbox.claim(stream, self._owner, self._lease):
                return
            try:
                await self._deliver_in_order(stream)
            finally:
                await self._outbox.release(stream, self._owner)
            self._woken.set()  # a task is free, and the stream may have grown since its end was seen
        except Exception:  # the lease runs out, and the stream is served again
            _log.exception("stream %s could not be served", stream)
        finally:
            del self._serving[stream]
            self._load -= Counter({origin: 1})  # forgets an origin that has none left

    async def _deliver_in_order(self, stream: str) -> None:
        head = await self._outbox.head(stream)
        if head is not None:
            await self._outbox.park(head.message)
        while head is not None and await self._may_try(head) and await self._attempt(head):
            head = await self._outbox.head(stream)

    async def _may_try(self, head: Pending) -> bool:
        """Whether it is time, and the lease is ours for longer than an attempt takes."""
        if self._stopping or head.due is None or head.due > self._clock.now():
            return False
        return await self._outbox.extend(head.message.stream, self._owner, self._lease)

    async def _attempt(self, head: Pending) -> bool:
        """Try the head once; whether the stream goes on with its next message."""
        failure = await self._post(head.message)
        if failure is None:
            await self._outbox.delivered(head.message)
            return True
        now = self._clock.now()
        attempts = head.attempts + 1
        age = (now - head.created).total_seconds()
        delay = self._policy.after(failure, attempts, age, now, self._rng)
        what = (head.message.stream, head.message.sequence, _describe(failure), attempts)
        if delay is None:
            _log.warning("stream %s: message %d given up: %s, %d attempts", *what)
            await self._outbox.dead(head.message, attempts, failure.status)
            return True
        _log.info("stream %s: message %d failed: %s, %d attempts, again in %.1f s", *what, delay)
        due = now + timedelta(seconds=delay)
        await self._outbox.postponed(head.message, due, attempts, failure.status)
        return False

    async def _post(self, message: Message) -> Failure | None:
        """None when the target has taken the message."""
        try:
            answer = await self._outbound.request(
                "POST", message.target, json=message.body, timeout=self._timeout, max_body=0
            )
        except TargetRefused:
            return Failure(refused=True)
        except TargetUnreachable:
            return Failure()
        if 200 <= answer.status < 300:
            return None
        return Failure(answer.status, answer.headers.get("Retry-After"))


def _describe(failure: Failure) -> str:
    if failure.refused:
        return "target refused"
    return "no answer" if failure.status is None else f"status {failure.status}"


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(*tasks: "asyncio.Task[None]") -> None:
    """Cancel the tasks and return when they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

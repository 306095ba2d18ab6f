"""Delivers what the outbox holds: at least once, in order per stream, and no target waits for another.

A message is forgotten only after its target answered 2xx, so a target can get one twice (its answer was lost,
the process was killed) and tells by the message's content. Any number of processes may dispatch from one
outbox: a stream is served under the lease of its shard, which another process takes over when it has run out.

A look at the outbox finds thousands of due streams. They are served shard by shard, each by a task of its own;
what these tasks read and write goes to the database together.
"""

import asyncio
import logging
import random
from collections import Counter
from datetime import datetime, timedelta

from aimle_server.notifications.leases import Leases
from aimle_server.notifications.retry import Failure, RetryPolicy
from aimle_server.notifications.together import Together
from ml_repository.outbox import SHARDS, Due, Message, Outbox, Pending, Taken, Waiting, shard_of
from sbi.clock import Clock
from sbi.outbound import Outbound, TargetRefused, TargetUnreachable

_log = logging.getLogger("aimle.notifications")

_LEASE_TIMEOUTS = 3.0
"""A lease lasts as long as this many attempts."""
_LEFT_TIMEOUTS = 1.5
"""It is extended if, before an attempt, less than this is left of it."""
_SET_BACK = timedelta(seconds=5)
"""A clock that shows less than at the last look, by more than this, was set back."""
_LOOK = 4096
"""Due messages looked at: the embedded database reads all that are due, however few are asked for."""
_GATHER = 0.005
"""Seconds in which what the tasks want of the database gathers."""
_READ = 32
"""Streams of one read: the embedded database compares each message with all of them."""
_WRITTEN = 128
"""Messages of one write."""


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
        concurrency: int = 256,
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
        self._leases = Leases(outbox, clock, timeout * _LEASE_TIMEOUTS)
        self._first_shard = rng.randrange(SHARDS)  # processes that look together begin at different ones
        self._read = Together(outbox.waiting, pause=_GATHER, most=_READ)
        self._park = Together(outbox.park, pause=_GATHER, most=_WRITTEN)
        self._forget = Together(outbox.delivered, pause=_GATHER, most=_WRITTEN)
        self._changed = asyncio.Event()  # something can be done: look, or serve what was found
        self._wakes = 0
        self._look = True  # there may be due streams that are not known yet
        self._more = False  # the last look found some, or left some out
        self._stopping = False
        self._looked: datetime | None = None
        self._found: dict[int, dict[str, Due]] = {}  # due streams that are not being served, by their shards
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._load: Counter[str] = Counter()  # streams being served, by the origin of their targets
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deliver."""
        self._stopping = False
        self._look = True
        self._loop = asyncio.create_task(self._run())

    async def stop(self, grace: float = 5.0) -> None:
        """Begin nothing new, let the requests under way finish within `grace` seconds, break off the rest.

        What is broken off is delivered again after the next start, or by another process.
        """
        self._stopping = True
        self._changed.set()
        under_way = {*self._serving.values(), *filter(None, [self._loop])}
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=grace)
            await _cancel(*late)
        for group in (self._read, self._park, self._forget):
            await group.finish()
        self._found.clear()
        try:
            await self._leases.release_all_but(())
        except Exception:  # they run out
            _log.exception("the leases could not be given back")

    def wake(self) -> None:
        """Something was enqueued and committed: look now."""
        self._wakes += 1
        self._look = True
        self._changed.set()

    async def _run(self) -> None:
        while not self._stopping:
            self._changed.clear()
            try:
                await self._serve_due()
            except Exception:  # the database is away: the next look may find it back
                _log.exception("the outbox cannot be read")
            await self._pause()

    async def _pause(self) -> None:
        poll = asyncio.ensure_future(self._clock.sleep(self._poll_interval))
        change = asyncio.ensure_future(_wait(self._changed))
        try:
            await asyncio.wait([poll, change], return_when=asyncio.FIRST_COMPLETED)
            self._look = self._look or poll.done()
        finally:
            await _cancel(poll, change)

    async def _serve_due(self) -> None:
        await self._heed_the_clock()
        await self._serve_found()
        if self._look and self._has_room():
            self._look = False
            await self._look_for_due()
            await self._serve_found()
        await self._leases.release_all_but(self._used_shards())

    async def _look_for_due(self) -> None:
        busy = [origin for origin, streams in self._load.items() if streams >= self._per_origin]
        due = await self._outbox.due_streams(_LOOK, busy, await self._leases.of_others())
        new = [each for each in due if each.stream not in self._serving]
        for each in new:
            self._found.setdefault(each.shard, {})[each.stream] = each
        self._more = bool(new or busy)

    async def _serve_found(self) -> None:
        """Serve what there is room for; of a shard that another process has, nothing."""
        while self._has_room() and (due := self._first_found()):
            if not await self._leases.claim(due.shard):
                del self._found[due.shard]
            elif not self._stopping:
                self._take(due)

    def _has_room(self) -> bool:
        return not self._stopping and len(self._serving) < self._concurrency

    def _first_found(self) -> Due | None:
        """A stream whose origin has room, of a shard that is ours if there is one."""
        for shard in sorted(self._found, key=self._rank):
            for due in self._found[shard].values():
                if self._load[due.origin] < self._per_origin:
                    return due
        return None

    def _rank(self, shard: int) -> tuple[bool, int]:
        return shard not in self._leases, (shard - self._first_shard) % SHARDS

    def _used_shards(self) -> set[int]:
        return {shard_of(stream) for stream in self._serving} | self._found.keys()

    def _take(self, due: Due) -> None:
        streams = self._found[due.shard]
        del streams[due.stream]
        if not streams:
            del self._found[due.shard]
        self._load[due.origin] += 1
        self._serving[due.stream] = asyncio.create_task(self._serve(due))

    async def _heed_the_clock(self) -> None:
        """Have nothing wait for a time that the clock has shown before; whoever is tried too early comes to no harm."""
        now = self._clock.now()
        if self._looked and now < self._looked - _SET_BACK:
            _log.warning("the clock was set back: all notifications are due")
            await self._outbox.make_all_due()
        self._looked = now

    async def _serve(self, due: Due) -> None:
        wakes = self._wakes
        try:
            await self._deliver_in_order(due)
        except Exception:  # it is due still, so a later look finds it
            _log.exception("stream %s could not be served", due.stream)
        finally:
            del self._serving[due.stream]
            self._load -= Counter({due.origin: 1})  # forgets an origin that has none left
            self._look = (
                self._look or self._more or wakes != self._wakes
            )  # it may have grown since it was read
            self._changed.set()

    async def _deliver_in_order(self, due: Due) -> None:
        waiting = await self._read_first(due.stream)
        while waiting and await self._deliver(waiting, due.shard) and waiting.more:
            waiting = await self._read_first(due.stream)

    async def _read_first(self, stream: str) -> Waiting | None:
        """What waits there, if it is time for its head; what is behind the head waits for its turn."""
        waiting = (await self._read(stream)).get(stream)
        if waiting is None:
            return None
        now = self._clock.now()
        head, *behind = waiting.messages
        if any(_is_due(each, now) for each in behind):
            await self._park(waiting)
        return waiting if _is_due(head, now) else None

    async def _deliver(self, waiting: Waiting, shard: int) -> bool:
        """Try one message after the other; whether the stream goes on with its next one."""
        for this, following in waiting.with_following():
            if not (await self._may_try(shard) and await self._attempt(this, following)):
                return False
        return True

    async def _may_try(self, shard: int) -> bool:
        """Whether the lease is ours for longer than an attempt takes."""
        return not self._stopping and await self._leases.lasts(shard, _LEFT_TIMEOUTS * self._timeout)

    async def _attempt(self, pending: Pending, following: Pending | None) -> bool:
        """Try the head once; whether the stream goes on with the one behind it."""
        next_one = following.message if following else None
        failure = await self._post(pending.message)
        if failure is None:
            await self._forget(Taken(pending.message, next_one))
            return True
        return await self._note(failure, pending, next_one)

    async def _note(self, failure: Failure, pending: Pending, next_one: Message | None) -> bool:
        """Keep the head for later or give it up; whether the stream goes on with the one behind it."""
        now = self._clock.now()
        attempts = pending.attempts + 1
        age = (now - pending.created).total_seconds()
        delay = self._policy.after(failure, attempts, age, now, self._rng)
        message = pending.message
        what = (message.stream, message.sequence, _describe(failure), attempts)
        if delay is None:
            _log.warning("stream %s: message %d given up: %s, %d attempts", *what)
            await self._outbox.dead(message, attempts, failure.status, next_one)
            return True
        _log.info("stream %s: message %d failed: %s, %d attempts, again in %.1f s", *what, delay)
        due = now + timedelta(seconds=delay)
        await self._outbox.postponed(message, due, attempts, failure.status)
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


def _is_due(pending: Pending, now: datetime) -> bool:
    return pending.due is not None and pending.due <= now


def _describe(failure: Failure) -> str:
    if failure.refused:
        return "target refused"
    return "no answer" if failure.status is None else f"status {failure.status}"


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(*tasks: "asyncio.Future[None]") -> None:
    """Cancel the tasks and return when they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

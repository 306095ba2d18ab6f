"""The results of a stage that has no next one: the tail's, kept until they are fetched.

Whoever subscribes to a stream gets its results as they come; others ask for one by its number. There is room for few:
when nobody takes them the stage waits, and with it the whole pipeline. Results of a stream that nobody subscribes to
are dropped after half a minute, so that somebody who went away does not hold the others up for ever.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator

from aimle_client.split.frames import Frame

KEEP_SECONDS = 30.0

_Key = tuple[bytes, int]


class Results:
    """Frames on their way to who sent the inputs.

    Args:
        capacity: how many wait at most.
        keep: seconds that one waits where nobody subscribes to its stream.
    """

    def __init__(self, capacity: int, keep: float = KEEP_SECONDS) -> None:
        self._capacity = capacity
        self._keep = keep
        self._changed = asyncio.Condition()
        self._waiting: dict[_Key, tuple[Frame, float]] = {}
        self._subscribed: Counter[bytes] = Counter()

    async def send(self, frame: Frame) -> None:
        """Keep a frame, as soon as there is room."""
        async with self._changed:
            while len(self._waiting) >= self._capacity and not self._drop_old():
                await self._change(self._next_end())
            self._waiting[frame.stream, frame.sequence] = (frame, self._now() + self._keep)
            self._changed.notify_all()

    async def take(self, stream: bytes, sequence: int, seconds: float) -> Frame | None:
        """The result with this number, once; None if it does not come within so many seconds."""
        key, end = (stream, sequence), self._now() + seconds
        async with self._changed:
            while key not in self._waiting:
                if self._now() >= end:
                    return None
                await self._change(end)
            return self._pop(key)

    async def subscribe(self, stream: bytes) -> AsyncGenerator[Frame, None]:
        """The results of a stream as they come, without an end."""
        self._subscribed[stream] += 1
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._first(stream) is not None)
                    key = self._first(stream)
                    assert key is not None  # noqa: S101 - it was waited for
                    frame = self._pop(key)
                yield frame
        finally:
            self._subscribed[stream] -= 1

    def _first(self, stream: bytes) -> _Key | None:
        return next((key for key in self._waiting if key[0] == stream), None)

    def _pop(self, key: _Key) -> Frame:
        frame, _ = self._waiting.pop(key)
        self._changed.notify_all()
        return frame

    def _drop_old(self) -> bool:
        """Drop what nobody has come for; whether there was something."""
        now = self._now()
        old = [key for key, (_, end) in self._waiting.items() if end <= now and not self._subscribed[key[0]]]
        for key in old:
            del self._waiting[key]
        return bool(old)

    def _next_end(self) -> float:
        """When something can be dropped at the earliest."""
        ends = [end for (stream, _), (_, end) in self._waiting.items() if not self._subscribed[stream]]
        return min(ends, default=math.inf)

    async def _change(self, end: float) -> None:
        """Return when something has changed, or at `end`; somebody may subscribe no more without a change."""
        try:
            async with asyncio.timeout_at(min(end, self._now() + self._keep)):
                await self._changed.wait()
        except TimeoutError:
            pass

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

"""A pipeline as its user has it: inputs go to the head, results come from the tail (TS 23.482 8.14).

    async with SplitPipeline(head_uri, tail_uri) as pipeline:
        scores = await pipeline.infer({"image": image})
        async for scores in pipeline.map(batches):
            ...

What has been sent is kept here until its result has come. So whatever breaks, a node, a connection or the whole
pipeline, nothing is lost: once there is a pipeline again (`move`, or the same one), what has no result yet is sent
again. A result that comes a second time finds nobody who waits for it, so nothing is answered twice either.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import numpy.typing as npt

from aimle_client.errors import InferenceFailed
from aimle_client.http import open_session
from aimle_client.split.emulation import REAL, Emulation
from aimle_client.split.frames import (
    MAX_PAYLOAD,
    STREAM_BYTES,
    Arrays,
    Frame,
    FrameError,
    pack_tensors,
    unpack_tensors,
)
from aimle_client.split.links import Link, LinkBroken, link_to
from aimle_client.split.tasks import either, end

_log = logging.getLogger("aimle.client")

WINDOW = 16
"""Frames that are under way at once."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts to connect; doubled from the first to the longest."""

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Pending:
    message: bytes
    result: asyncio.Future[Tensors]


class SplitPipeline:
    """A pipeline, used inside `async with`.

    Args:
        head: URI of the head's inputs, as in `headEp` of the pipeline's profile.
        tail: URI of the tail's results, as in `tailEp`.
        window: frames under way at once; whoever has more to send waits.
        emulation: how slow its ways to the pipeline are made.
        session: for its connections; None: one of its own.

    Attributes:
        repeated: how many frames were sent again.
        duplicates: how many results came that nobody waited for any more.
    """

    def __init__(
        self,
        head: str,
        tail: str,
        *,
        window: int = WINDOW,
        emulation: Emulation = REAL,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self.repeated = 0
        self.duplicates = 0
        self._ends = (head, tail)
        self._stream = secrets.token_bytes(STREAM_BYTES)
        self._next = 0
        self._last_sent = -1
        self._window = window
        self._room = asyncio.Semaphore(window)
        self._pending: dict[int, _Pending] = {}
        self._unsent: asyncio.Queue[int] = asyncio.Queue()
        self._moved = asyncio.Event()
        self._ended: Exception | None = None
        self._emulation = emulation
        self._session = session

    def move(self, head: str, tail: str) -> None:
        """Go on at another pipeline; what has no result yet is sent again there."""
        self._ends = (head, tail)
        self._moved.set()

    def end(self, error: Exception) -> None:
        """There is no pipeline any more, nor will there be: this is what all frames get that have no results."""
        self._ended = error
        for pending in self._pending.values():
            if not pending.result.done():
                pending.result.set_exception(error)
                pending.result.exception()  # nobody has to have waited for it
        self._room.release()

    async def infer(self, inputs: Arrays) -> Tensors:
        """The results of one frame of inputs.

        Waits as long as there is no pipeline; the caller limits the time, as with `asyncio.timeout`.

        Raises:
            InferenceFailed: a node refused the inputs. And what `end` was given.
        """
        return await (await self.submit(inputs))

    async def submit(self, inputs: Arrays) -> asyncio.Future[Tensors]:
        """Send a frame of inputs, once there is room in the window; its results come later.

        Raises:
            ValueError: it is larger than frames may be.
        """
        payload = pack_tensors(inputs)
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a frame has at most {MAX_PAYLOAD} bytes")
        await self._room.acquire()
        if self._ended is not None:
            self._room.release()  # for the next one that waits
            raise self._ended
        number, self._next = self._next, self._next + 1
        result: asyncio.Future[Tensors] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(Frame(self._stream, number, payload).pack(), result)
        self._unsent.put_nowait(number)
        return result

    async def map(self, inputs: Iterable[Arrays] | AsyncIterable[Arrays]) -> AsyncIterator[Tensors]:
        """The results of many frames, in their order, with as many under way as the window has room for."""
        waiting: asyncio.Queue[asyncio.Future[Tensors] | None] = asyncio.Queue(self._window)

        async def send() -> None:
            try:
                async for frame in _each(inputs):
                    await waiting.put(await self.submit(frame))
                await waiting.put(None)
            except Exception as error:  # the application's, whose inputs these are
                failed: asyncio.Future[Tensors] = asyncio.get_running_loop().create_future()
                failed.set_exception(error)
                await waiting.put(failed)

        sending = asyncio.create_task(send())
        try:
            while (future := await waiting.get()) is not None:
                yield await future
        finally:
            sending.cancel()

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        if self._session is None:
            self._session = await self._stack.enter_async_context(open_session())
        self._keeping = asyncio.create_task(self._keep(self._session))
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._keeping)
        for pending in self._pending.values():
            pending.result.cancel()
        await self._stack.aclose()

    async def _keep(self, session: aiohttp.ClientSession) -> None:
        """Be connected, again and again."""
        pause = FIRST_PAUSE
        while True:
            self._moved.clear()
            done = self._next - len(self._pending)
            try:
                await either(self._connected(session, *self._ends), self._moved.wait())
            except LinkBroken as error:
                _log.info("the pipeline is not connected: %s", error)
            if self._next - len(self._pending) > done:
                pause = FIRST_PAUSE
            if not self._moved.is_set():
                await either(self._moved.wait(), asyncio.sleep(pause))
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _connected(self, session: aiohttp.ClientSession, head: str, tail: str) -> None:
        """Send and receive, until a connection ends."""
        async with (
            link_to(session, f"{tail}?stream={self._stream.hex()}", self._emulation) as results,
            link_to(session, head, self._emulation) as inputs,
        ):
            self._unsent = asyncio.Queue()
            for number in sorted(self._pending):
                self._unsent.put_nowait(number)
            await either(inputs.closed(), self._send(inputs), self._receive(results))
        raise LinkBroken("a connection to the pipeline ended")

    async def _send(self, link: Link) -> None:
        while True:
            number = await self._unsent.get()
            self.repeated += number <= self._last_sent
            self._last_sent = max(number, self._last_sent)
            if number in self._pending:
                await link.send(self._pending[number].message)

    async def _receive(self, link: Link) -> None:
        async for message in link.messages():
            try:
                self._settle(Frame.unpack(message))
            except FrameError as error:
                raise LinkBroken("the tail sent something that is no frame") from error

    def _settle(self, frame: Frame) -> None:
        """Give a result to who waits for it."""
        pending = self._pending.pop(frame.sequence, None)
        if pending is None:
            self.duplicates += 1
            return
        self._room.release()
        if pending.result.done():
            return  # who asked has gone
        try:
            if frame.failed:
                raise InferenceFailed(frame.payload.decode(errors="replace"))
            pending.result.set_result(unpack_tensors(frame.payload))
        except (InferenceFailed, FrameError) as error:
            pending.result.set_exception(InferenceFailed(str(error)))


async def _each(inputs: Iterable[Arrays] | AsyncIterable[Arrays]) -> AsyncIterator[Arrays]:
    if isinstance(inputs, AsyncIterable):
        async for frame in inputs:
            yield frame
    else:
        for frame in inputs:
            yield frame

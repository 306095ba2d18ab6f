"""A stage at this node: frames come in, the part computes them one by one, and results go on or wait to be fetched.

Between each two of these steps there is room for a few frames and no more: when the next node does not take any, this
one takes none either, and so back to who sends the inputs.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import aiohttp

from aimle_client.split.emulation import Emulation
from aimle_client.split.frames import Frame, FrameError
from aimle_client.split.links import Link, LinkBroken, link_to
from aimle_client.split.part import Part
from aimle_client.split.results import Results
from aimle_client.split.tasks import either, end

_log = logging.getLogger("aimle.split")

ROOM = 4
"""Frames that wait for the part, and results that wait to go on."""

RESULTS = 64
"""Results that wait at the tail to be fetched."""

_REMEMBERED = 32
"""Frames whose times the median is of."""


class Stage:
    """One part at work, from `start` to `close`.

    Args:
        stage_id: unguessable; whoever knows it may send inputs and fetch results.
        owner: who may do the rest.
        part: what is computed.
        compute: where it is computed.
        batch: samples of the frames that are timed.

    Attributes:
        results: what comes out, as long as the stage is not connected to a next one.
        frames: how many it has done.
        broken: it has lost the next one, and does nothing more.
        closed: set when nothing goes in any more.
    """

    def __init__(self, stage_id: str, owner: str, part: Part, compute: Executor, batch: int) -> None:
        self.id = stage_id
        self.owner = owner
        self.results = Results(RESULTS)
        self.frames = 0
        self.broken = False
        self.closed = asyncio.Event()
        self._part = part
        self._thread = compute
        self._batch = batch
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self._inputs: asyncio.Queue[Frame] = asyncio.Queue(ROOM)
        self._outputs: asyncio.Queue[Frame] = asyncio.Queue(ROOM)
        self._connection = AsyncExitStack()

    def start(self) -> None:
        """Begin."""
        self._computing = asyncio.create_task(self._guarded(self._compute()))
        self._sending = asyncio.create_task(self._guarded(self._pass_on(self.results.send)))

    async def put(self, frame: Frame) -> None:
        """Take a frame, as soon as there is room."""
        await self._inputs.put(frame)

    async def connect(self, session: aiohttp.ClientSession, url: str, emulation: Emulation) -> None:
        """Send what comes out to the stage whose inputs are at `url`, over one connection that stays open.

        Raises:
            LinkBroken: it cannot be reached.
        """
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(link_to(session, url, emulation))
            await end(self._sending)
            await self._connection.aclose()
            self._connection = stack.pop_all()
        self._sending = asyncio.create_task(self._guarded(self._forward(link)))

    async def close(self) -> None:
        """End; frames that are here are dropped."""
        self.closed.set()
        await end(self._computing)
        await end(self._sending)
        await self._connection.aclose()

    @property
    def seconds_per_frame(self) -> float | None:
        """How long frames of the planned size took lately, the median; None: there were none."""
        return median(self._times) if self._times else None

    async def _compute(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frame = await self._inputs.get()
            done = await loop.run_in_executor(self._thread, self._work, frame)
            self.frames += 1
            await self._outputs.put(done)

    def _work(self, frame: Frame) -> Frame:
        """The part's answer; a frame that has failed before goes on as it is."""
        if frame.failed:
            return frame
        try:
            ran = self._part.run(frame.payload)
        except FrameError as error:
            return frame.answer(str(error).encode(), failed=True)
        if ran.samples == self._batch:
            self._times.append(ran.seconds)
        return frame.answer(ran.payload)

    async def _pass_on(self, send: Callable[[Frame], Awaitable[None]]) -> None:
        while True:
            await send(await self._outputs.get())

    async def _forward(self, link: Link) -> None:
        """Pass on to the next node, until it is gone."""
        await either(link.closed(), self._pass_on(lambda frame: link.send(frame.pack())))
        raise LinkBroken("the next node has closed the connection")

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without which the stage is broken."""
        try:
            await work
        except LinkBroken as error:
            _log.warning("a stage has lost the next one: %s", error)
            self._break()
        except Exception:
            _log.exception("a stage failed")
            self._break()

    def _break(self) -> None:
        """Whoever sends to this stage is to know: its connections are closed."""
        self.broken = True
        self.closed.set()

"""Ways between nodes: one open WebSocket that frames go out of, and measuring how fast it is."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from aiohttp import WSMsgType

from aimle_client.split.emulation import Emulation, LinkShape
from aimle_client.split.frames import MAX_MESSAGE
from aimle_client.split.tasks import end

_CLOSE_SECONDS = 1.0
_MOST_UNDER_WAY = 64
_PROBES = 5
_FIRST_BYTES, _MOST_BYTES, _GROWTH = 1 << 9, 1 << 23, 4
_ENOUGH_SECONDS = 0.05
"""How long the largest probe should take: shorter ones say little about how fast bytes follow one another."""
_LEAST_SECONDS = 1e-6


class LinkBroken(Exception):
    """The other side is not there, or not any more; the message names no address."""


class Link:
    """Messages to and from one address; see `link_to`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """Send a message, when there is room for it on the way.

        Raises:
            LinkBroken: the connection is closed.
        """
        try:
            await self._socket.send_bytes(message)
        except ConnectionError as error:
            raise LinkBroken("the connection is closed") from error

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """What comes from the other side, until it closes the connection, or it breaks."""
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY:
                return
            yield message.data

    async def closed(self) -> None:
        """Return when the connection is closed; nothing else is expected from the other side."""
        async for _ in self.messages():
            pass


class SlowLink(Link):
    """A link that acts as slow as another one would be, in both directions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, shape: LinkShape) -> None:
        super().__init__(socket)
        self._out, self._in = _Lane(shape), _Lane(shape)

    async def send(self, message: bytes) -> None:
        """As of Link."""
        if self._socket.closed:
            raise LinkBroken("the connection is closed")
        await self._out.enter(message)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """As of Link."""
        while (message := await self._in.leave()) is not None:
            yield message

    async def carry_out(self) -> None:
        """The far end of the way there: each message is sent when its time has come."""
        while (message := await self._out.leave()) is not None:
            await super().send(message)

    async def carry_in(self) -> None:
        """The far end of the way back."""
        async for message in super().messages():
            await self._in.enter(message)
        await self._in.end()


class _Lane:
    """One direction of a slow link: messages enter one after the other, and leave when the last byte has arrived."""

    def __init__(self, shape: LinkShape) -> None:
        self._shape = shape
        self._free = 0.0
        self._under_way: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(_MOST_UNDER_WAY)

    async def enter(self, message: bytes) -> None:
        now = time.monotonic()
        self._free = max(now, self._free) + len(message) / self._shape.bytes_per_s
        await asyncio.sleep(self._free - now)
        await self._under_way.put((self._free + self._shape.latency_s, message))

    async def end(self) -> None:
        await self._under_way.put((0.0, None))

    async def leave(self) -> bytes | None:
        arrival, message = await self._under_way.get()
        await asyncio.sleep(arrival - time.monotonic())
        return message


@asynccontextmanager
async def link_to(session: aiohttp.ClientSession, url: str, emulation: Emulation) -> AsyncIterator[Link]:
    """A connection to the WebSocket at `url`, for the time of the block.

    Raises:
        LinkBroken: there is none to be had.
    """
    try:
        socket = await session.ws_connect(
            url, max_msg_size=MAX_MESSAGE, timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS)
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise LinkBroken("the other side cannot be reached") from error
    shape = emulation.link_to(url)
    async with socket, AsyncExitStack() as stack:
        if shape is None:
            yield Link(socket)
            return
        link = SlowLink(socket, shape)
        for work in (link.carry_out(), link.carry_in()):
            stack.push_async_callback(end, asyncio.create_task(work))
        yield link


async def measure(link: Link) -> LinkShape:
    """How fast the way to a probe is, which answers each message with an empty one.

    Raises:
        LinkBroken: it broke meanwhile.
    """
    answers = link.messages()
    there_and_back = min([await _ask(link, answers, b"") for _ in range(_PROBES)])
    size, seconds = _FIRST_BYTES, 0.0
    while seconds < _ENOUGH_SECONDS and size < _MOST_BYTES:
        size *= _GROWTH
        seconds = await _ask(link, answers, os.urandom(size)) - there_and_back
    seconds = min(seconds, await _ask(link, answers, os.urandom(size)) - there_and_back)
    return LinkShape(size / max(seconds, _LEAST_SECONDS), there_and_back / 2)


async def _ask(link: Link, answers: AsyncIterator[bytes], message: bytes) -> float:
    """Seconds until the answer to a message is here."""
    began = time.monotonic()
    await link.send(message)
    try:
        await anext(answers)
    except StopAsyncIteration as error:
        raise LinkBroken("the other side is no probe, or not any more") from error
    return time.monotonic() - began

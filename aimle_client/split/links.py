"""Ways between nodes: one open WebSocket that frames go out of, and measuring how fast it is."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import WSMsgType

from aimle_client.split.emulation import Emulation, LinkShape
from aimle_client.split.frames import MAX_MESSAGE

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
    """Frames to one address; see `link_to`.

    Attributes:
        socket: the WebSocket.
        shape: how slow it is made; None: it is as it is.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, shape: LinkShape | None) -> None:
        self.socket = socket
        self.shape = shape
        self._free = 0.0
        self._under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_UNDER_WAY)

    async def send(self, message: bytes) -> None:
        """Send a message, when there is room for it on the way.

        Raises:
            LinkBroken: the connection is closed.
        """
        if self.shape is None:
            await self._send(message)
            return
        now = time.monotonic()
        self._free = max(now, self._free) + len(message) / self.shape.bytes_per_s
        await asyncio.sleep(self._free - now)
        await self._under_way.put((self._free + self.shape.latency_s, message))

    async def closed(self) -> None:
        """Return when the other side has closed the connection, or it broke; nothing else is expected from there."""
        async for _ in self.socket:
            pass

    async def deliver(self) -> None:
        """Of a shaped way, the far end: each message comes out when its time has come."""
        while True:
            arrival, message = await self._under_way.get()
            await asyncio.sleep(arrival - time.monotonic())
            await self._send(message)

    async def _send(self, message: bytes) -> None:
        try:
            await self.socket.send_bytes(message)
        except ConnectionError as error:
            raise LinkBroken("the connection is closed") from error


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
    async with socket:
        link = Link(socket, emulation.link_to(url))
        delivering = asyncio.create_task(link.deliver())
        try:
            yield link
        finally:
            delivering.cancel()
            await asyncio.wait([delivering])


async def measure(link: Link) -> LinkShape:
    """How fast the way to a probe is, which answers each message with an empty one.

    Raises:
        LinkBroken: it broke meanwhile.
    """
    there_and_back = min([await _ask(link, b"") for _ in range(_PROBES)])
    size, seconds = _FIRST_BYTES, 0.0
    while seconds < _ENOUGH_SECONDS and size < _MOST_BYTES:
        size *= _GROWTH
        seconds = await _ask(link, os.urandom(size)) - there_and_back
    seconds = min(seconds, await _ask(link, os.urandom(size)) - there_and_back)
    return LinkShape(size / max(seconds, _LEAST_SECONDS), there_and_back / 2)


async def _ask(link: Link, message: bytes) -> float:
    """Seconds until the answer to a message is here; the answers of a shaped way are shaped here."""
    began = time.monotonic()
    await link.send(message)
    answer = await link.socket.receive()
    if answer.type is not WSMsgType.BINARY:
        raise LinkBroken("the other side is no probe, or not any more")
    if link.shape:
        await asyncio.sleep(link.shape.latency_s)
    return time.monotonic() - began

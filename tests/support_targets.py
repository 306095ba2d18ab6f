"""Notification targets that misbehave, each a real listener on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

GIGABYTE = 1 << 30


@dataclass
class Poured:
    """What the targets got rid of that send a gigabyte: bytes, and to how many requests."""

    total: int = 0
    requests: int = 0


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and never answer."""
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer, one letter of a header at a time, and without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what is no HTTP."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


async def continue_forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say without an end that the answer is about to come."""
    await reader.readuntil(b"\r\n\r\n")
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


def pour(poured: Poured, head: bytes, piece: bytes = bytes(1 << 20)) -> Behaviour:
    """Answer with `head` and then a gigabyte."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        poured.requests += 1
        writer.write(head)
        for _ in range(GIGABYTE // len(piece)):
            writer.write(piece)
            await writer.drain()
            poured.total += len(piece)

    return behave


@asynccontextmanager
async def target(behave: Behaviour) -> AsyncIterator[str]:
    """The address of a target that treats each connection so."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the caller has gone, as it should
                await behave(reader, writer)
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def redirect_in_a_circle(request: web.Request) -> web.StreamResponse:
    """Send the caller to the other of two paths."""
    there = "/b" if request.path == "/a" else "/a"
    return web.Response(status=307, headers={"Location": there})


async def redirect_ever_on(request: web.Request) -> web.StreamResponse:
    """Send the caller to a path that it has not seen."""
    return web.Response(status=308, headers={"Location": request.path + "/on"})

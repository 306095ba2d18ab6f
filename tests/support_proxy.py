"""A TCP proxy that treats a connection as networks do: cuts it, flips a bit in it, holds it up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to one direction of one connection.

    Attributes:
        cut: the connection ends after so many bytes.
        flip: the byte at this position gets one bit changed.
        hold: nothing more is passed on after so many bytes.
    """

    cut: int | None = None
    flip: int | None = None
    hold: int | None = None


@dataclass
class Proxy:
    """Forwards connections to `port`; faults are taken from the lists, one for each connection.

    Attributes:
        up, down: faults of the coming connections, client to server and server to client.
        sent_up, sent_down: bytes that each connection has carried.
        connections: those that are open.
    """

    port: int
    listening_on: int = 0
    up: list[Fault] = field(default_factory=list)
    down: list[Fault] = field(default_factory=list)
    sent_up: list[int] = field(default_factory=list)
    sent_down: list[int] = field(default_factory=list)
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    def cut_all(self) -> None:
        """End the connections that there are."""
        for task in list(self.connections):
            task.cancel()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.listening_on}"

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one of its sides or a fault ends it."""
        up = self.up.pop(0) if self.up else Fault()
        down = self.down.pop(0) if self.down else Fault()
        number = len(self.sent_up)
        self.sent_up.append(0)
        self.sent_down.append(0)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(_forward(reader, server_writer, up, self.sent_up, number)),
            asyncio.create_task(_forward(server_reader, writer, down, self.sent_down, number)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            server_writer.close()  # what has passed the proxy arrives
            await asyncio.gather(*ways, return_exceptions=True)


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault, sent: list[int], number: int
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(16_384):
            if fault.hold is not None and sent[number] + len(data) > fault.hold:
                await asyncio.Event().wait()
            if fault.cut is not None:
                data = data[: fault.cut - sent[number]]
            if fault.flip is not None and sent[number] <= fault.flip < sent[number] + len(data):
                at = fault.flip - sent[number]
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            writer.write(data)
            await writer.drain()
            sent[number] += len(data)
            if sent[number] == fault.cut:
                return


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy in front of the server on this port of loopback."""
    proxy = Proxy(port)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy.connections.add(task)
        with suppress(asyncio.CancelledError):
            await proxy.connect(reader, writer)
        proxy.connections.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.listening_on = server.sockets[0].getsockname()[1]
    yield proxy
    server.close()
    proxy.cut_all()
    await asyncio.gather(*proxy.connections, return_exceptions=True)

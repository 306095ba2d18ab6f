"""One client's connection: aiohttp's, which ends at the first thing that is no HTTP.

aiohttp would go on reading behind it while a handler is busy and keep each piece of 256 KiB with a report several
times as large, 32 of them per connection, and would send the first one back.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket
from typing import Any

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from sbi.problems import problem_response

BACKLOG = 4096
"""Connections that may wait to be accepted. Beyond that the kernel drops some whose clients believe them open,
so a crowd that arrives at once must fit; it is also what Linux allows by default (`net.core.somaxconn`)."""


class Connection(RequestHandler):
    """Reads requests and answers them."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take what has come, and no more once it is no HTTP."""
        if not self._failed:
            super().data_received(data)
        if self._failed and self.transport is not None:
            self.transport.pause_reading()

    @property
    def _failed(self) -> bool:
        """Whether what came last is an error, which waits for its answer."""
        return bool(self._messages) and isinstance(self._messages[-1][0], _ErrInfo)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, without what came, and to what our own middleware did not see."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        response = problem_response(400, "this is not a request of HTTP/1.1", cause="INVALID_MSG_FORMAT")
        response.headers[hdrs.SERVER] = "aimle-server"  # else aiohttp names itself
        response.force_close()
        return response


@asynccontextmanager
async def listening(
    server: web.Server | None, on: socket, context: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[None]:
    """Accept connections for `server` while the block runs; those that are open go on after it.

    `options` are those of aiohttp's RequestHandler.
    """
    assert server is not None  # noqa: S101 - the runner has been set up
    loop = asyncio.get_running_loop()
    accepting = await loop.create_server(
        lambda: Connection(server, loop=loop, **options), sock=on, ssl=context, backlog=BACKLOG
    )
    try:
        yield
    finally:
        accepting.close()

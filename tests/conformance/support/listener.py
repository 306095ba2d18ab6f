"""What the server calls: addresses for notifications, files for it to fetch, and AIMLE clients."""

import ipaddress
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from support.background import Background
from support.documents import NotAsDocumented, Operation

Json = Any
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PATIENCE = 30.0
"""Seconds that a server has for what it does by itself."""


@dataclass
class Inbox:
    """An address for notifications, and what came there.

    Attributes:
        operation: whose callback they are.
        uri: the address.
        complaints: what is wrong with those that the document does not have.
    """

    operation: Operation
    uri: str
    bodies: list[Json] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, content_type: str, text: str) -> None:
        """A notification came."""
        with self._changed:
            try:
                body = json.loads(text)
                self.operation.check_notification(content_type, body)
                self.bodies.append(body)
            except (ValueError, NotAsDocumented) as error:
                self.complaints.append(f"{error}: {text[:500]}")
            self._changed.notify_all()

    def wait(self, wanted: Callable[[Json], bool] = lambda _: True, seconds: float = PATIENCE) -> Json:
        """The first notification that is wanted.

        Raises:
            NotAsDocumented: none came in time, or one that the document does not have.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                self.check()
                for body in self.bodies:
                    if wanted(body):
                        return body
                if not self._changed.wait(until - time.monotonic()):
                    shown = json.dumps(self.bodies)[:1000]
                    raise NotAsDocumented(f"the notification did not come; those that came: {shown}")

    def check(self) -> None:
        """Raise NotAsDocumented if one came that the document does not have."""
        if self.complaints:
            raise NotAsDocumented("a notification is not as documented: " + self.complaints[0])


class Listener:
    """An HTTP server for what tests put there; used as a context manager.

    Args:
        host: where the server under test reaches it.
        port: 0: any free one.
    """

    def __init__(self, background: Background, host: str, port: int) -> None:
        self._background = background
        self._host = host
        self._port = port
        self._handlers: dict[str, Handler] = {}
        self._numbers = iter(range(1, 1 << 30))

    def __enter__(self) -> "Listener":
        self._background.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._background.run(self._runner.cleanup())

    def inbox(self, operation: Operation) -> Inbox:
        """A new address for an operation's notifications."""
        path = f"/notifications/{next(self._numbers)}"
        inbox = Inbox(operation, self.root + path)

        async def take(request: web.Request) -> web.Response:
            inbox.put(request.content_type, await request.text())
            return web.Response(status=204)

        self._handlers[path] = take
        return inbox

    def file(self, content: bytes) -> str:
        """A new address at which the server can fetch these bytes."""
        path = f"/files/{next(self._numbers)}"

        async def give(_: web.Request) -> web.Response:
            return web.Response(body=content, content_type="application/octet-stream")

        self._handlers[path] = give
        return self.root + path

    def mount(self, prefix: str, handler: Handler) -> str:
        """Have everything below a prefix answered by a handler; returns the address."""
        self._handlers[prefix] = handler
        return self.root + prefix

    def unmount(self, prefix: str) -> None:
        """Answer 404 there again."""
        del self._handlers[prefix]

    @property
    def root(self) -> str:
        """The address that is told to the server."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host if _is_loopback(self._host) else None, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        for prefix in _prefixes(request.path):
            if prefix in self._handlers:
                return await self._handlers[prefix](request)
        raise web.HTTPNotFound


def _prefixes(path: str) -> Iterator[str]:
    """The path itself, then what it begins with, the longest first."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Runs the application: socket, TLS, signals, and an end that lets running requests finish."""

import asyncio
import ctypes
import resource
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

from aimle_server import logs
from aimle_server.settings import Server, Settings, SettingsError
from sbi.body import AS_SENT
from sbi.connection import listening

Build = Callable[[Settings], Awaitable[web.Application]]
"""Makes the application; `app.build_app`."""

Ready = Callable[[str], None]
"""Told the URL once requests are answered."""

_M_ARENA_MAX = -8
"""Of malloc.h."""

LAST_SECONDS = 1.0
"""For the last bytes of the answers at a stop, and for requests that ran out of time to notice it."""


LINGER_SECONDS = 3.0
"""How long a body is read, and thrown away, after its request was answered; then the connection is closed."""


def run(settings: Settings, build: Build) -> None:
    """Serve until SIGTERM or SIGINT, in one process."""
    logs.configure(settings.server.log_level)
    _allow_many_connections()
    _share_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, build))


def say_ready(url: str) -> None:
    """The one line on standard output."""
    print(f"aimle-server is ready at {url}", flush=True)


async def serve(
    settings: Settings, build: Build, *, ready: Ready = say_ready, stop: asyncio.Event | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set.

    The sockets are bound first: a port that is taken is found out before anything starts, and with port 0 the
    application knows the real one from the beginning. Other processes on the same database have an address of
    their own for this one.
    """
    stop = stop or asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = settings.server
    context = _tls(server)
    with (
        bind(server.host, server.port, server.workers > 1) as listener,
        bind(server.peer_host, server.peer_port) as peers,
    ):
        ports = {"port": listener.getsockname()[1], "peer_port": peers.getsockname()[1]}
        bound = replace(settings, server=replace(server, **ports))
        app, requests = await build(bound), _Requests()
        requests.watch(app)
        runner = web.AppRunner(app, shutdown_timeout=LAST_SECONDS)
        try:
            await runner.setup()
            async with (
                listening(runner.server, peers, **_options(server)),
                listening(runner.server, listener, context, **_options(server)),
            ):
                ready(bound.api_root)
                await stop.wait()
            await runner.shutdown()  # nobody new gets in; trainings are handed over
            await requests.finish(runner, server.shutdown_timeout)
        finally:
            await runner.cleanup()


def _allow_many_connections() -> None:
    """Use as many files as this process may: shells and services often begin with 1024, far below the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _share_memory() -> None:
    """Let threads allocate from two heaps: glibc gives each its own, which keeps what one transfer has needed.

    In a round of 10 x 40 MB that is 60 of 210 MB. Other C libraries have no such thing.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


class _Requests:
    """The requests under way, and their end.

    aiohttp's own end waits for answers, but from its beginning throws away what still comes in: the rest of an
    upload would never arrive.
    """

    def __init__(self) -> None:
        self._under_way: set[web.RequestHandler] = set()
        self._one_less = asyncio.Event()
        self._last = False

    def watch(self, app: web.Application) -> None:
        """Know of every request to an application that does not serve yet."""
        app.middlewares.insert(0, self._watched)
        app.on_response_prepare.append(self._say_whether_last)

    async def finish(self, runner: web.AppRunner, seconds: float) -> None:
        """Return when no request is under way any more, or after so many seconds; idle connections are closed."""
        self._last = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._close_idle(runner):
                    self._one_less.clear()
                    await self._one_less.wait()

    def _close_idle(self, runner: web.AppRunner) -> bool:
        """Whether there are others."""
        for connection in runner.server.connections if runner.server else ():
            if connection not in self._under_way:
                connection.close()
        return bool(self._under_way)

    @web.middleware
    async def _watched(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._under_way.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._under_way.discard(request.protocol)
            self._one_less.set()

    async def _say_whether_last(self, _request: web.Request, response: web.StreamResponse) -> None:
        if self._last:
            response.force_close()


def bind(host: str, port: int, shared: bool = False) -> socket.socket:
    """A bound socket that does not listen yet, so that nobody waits for answers while we start.

    Raises:
        SettingsError: the address is not ours, or the port is taken; `shared`: by a process that does not share.
    """
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _options(server: Server) -> dict[str, Any]:
    """Of each connection."""
    return {
        **AS_SENT,
        "access_log_class": logs.AccessLog,
        "access_log": logs.ACCESS,
        "keepalive_timeout": server.idle_timeout,
        "lingering_time": LINGER_SECONDS,
    }


def _tls(server: Server) -> ssl.SSLContext | None:
    """TLS 1.2 or newer, with client certificates where a CA for them is named; None for plain HTTP."""
    if not server.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key, password="")  # never ask on a terminal
        if server.tls_client_ca:
            context.load_verify_locations(server.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise SettingsError(f"server.tls_*: {error.strerror or error}") from error
    return context

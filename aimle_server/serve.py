"""Runs the application: socket, TLS, signals, and an end that lets running requests finish."""

import asyncio
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

import uvloop
from aiohttp import web

from aimle_server import logs
from aimle_server.settings import Server, Settings, SettingsError

Build = Callable[[Settings], Awaitable[web.Application]]
"""Makes the application; `app.build_app`."""


def run(settings: Settings, build: Build) -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.configure(settings.server.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, build))


async def serve(settings: Settings, build: Build) -> None:
    """Serve until SIGTERM or SIGINT; says on standard output where, once requests are answered.

    The socket is bound first: a port that is taken is found out before anything starts, and with port 0 the
    application knows the real one from the beginning.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    context = _tls(settings.server)
    with _bind(settings.server) as listener:
        bound = replace(settings, server=replace(settings.server, port=listener.getsockname()[1]))
        runner = web.AppRunner(
            await build(bound),
            access_log_class=logs.AccessLog,
            access_log=logs.ACCESS,
            shutdown_timeout=settings.server.shutdown_timeout,
        )
        try:
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=context).start()
            print(f"aimle-server is ready at {bound.api_root}", flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()


def _bind(server: Server) -> socket.socket:
    """A bound socket that does not listen yet, so that nobody waits for answers while we start."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            server.host or None, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise SettingsError(f"cannot listen on {server.host}:{server.port}: {error.strerror}") from error
    return listener


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

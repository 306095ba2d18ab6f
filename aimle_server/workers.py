"""`server.workers`: several processes on one port, which share the database and this machine's files.

The parent keeps the port taken, starts the embedded database if no other is named, and replaces a worker that
dies. A worker whose parent is gone ends: the pipe between them breaks.
"""

import asyncio
import logging
import multiprocessing
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from aimle_server import logs
from aimle_server.serve import Build, bind, say_ready, serve
from aimle_server.settings import Settings
from ml_repository.embedded import EmbeddedDatabase

_log = logging.getLogger("aimle.workers")

RESTART_SECONDS = 1.0
"""Pause before a worker that died is replaced."""


def run(settings: Settings, build: Build) -> None:
    """Serve with `settings.server.workers` processes until SIGTERM or SIGINT."""
    logs.configure(settings.server.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_supervise(settings, build))


async def _supervise(settings: Settings, build: Build) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if not settings.database.url:
            embedded = await stack.enter_async_context(EmbeddedDatabase(Path(settings.server.data_dir)))
            settings = replace(settings, database=replace(settings.database, url=embedded.url))
        server = settings.server
        taken = stack.enter_context(bind(server.host, server.port, shared=True))
        settings = replace(settings, server=replace(server, port=taken.getsockname()[1]))
        workers = [_Worker(settings, build) for _ in range(server.workers)]
        try:
            await asyncio.gather(*(worker.start() for worker in workers))
            say_ready(settings.api_root)
            await stop.wait()
        finally:
            await asyncio.gather(*(worker.stop() for worker in workers))


class _Worker:
    """One worker process, and its successors."""

    def __init__(self, settings: Settings, build: Build) -> None:
        self._arguments = (settings, build)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it answers requests; from then on it is replaced when it dies."""
        self._keeper = asyncio.create_task(self._keep(ready := asyncio.Event()))
        await ready.wait()

    async def stop(self) -> None:
        """Let it finish what it is doing."""
        if self._keeper:
            self._keeper.cancel()
        if self._process and self._process.is_alive():
            self._process.terminate()
            await asyncio.to_thread(self._process.join)

    async def _keep(self, ready: asyncio.Event) -> None:
        while True:
            ours, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            self._process = context.Process(target=_work, args=(*self._arguments, theirs))
            self._process.start()
            theirs.close()
            await asyncio.to_thread(_await_ready, ours)
            ready.set()
            await asyncio.to_thread(self._process.join)
            ours.close()
            _log.error("a worker ended with status %s and is replaced", self._process.exitcode)
            await asyncio.sleep(RESTART_SECONDS)


def _await_ready(pipe: Connection) -> None:
    """Return when the worker has said that it is ready, or has died."""
    try:
        pipe.recv()
    except EOFError:
        return


def _work(settings: Settings, build: Build, parent: Connection) -> None:
    """Be a worker until SIGTERM, or until the parent is gone."""
    logs.configure(settings.server.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, build, parent))


async def _serve(settings: Settings, build: Build, parent: Connection) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(parent.fileno(), stop.set)
    await serve(settings, build, ready=parent.send, stop=stop)

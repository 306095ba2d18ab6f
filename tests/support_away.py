"""A database that tests take away, on a port and with data that stay the same, and requests to its server."""

import asyncio
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aimle_client.testing import running_server
from ml_repository.database import connect
from sbi.errors import Unavailable
from tests.support import eventually
from tests.support_clients import criteria, reg_info
from tests.support_models import PUBLIC, profile, storage

ANSWERED_WITHIN = 6.0
"""Seconds: the four until silence is noticed, one of grace, and some for a machine that does much else."""
NOTICED_WITHIN = 8.0
WAYS = pytest.mark.parametrize(
    "way", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda way: way.name
)
"""How a database goes away."""
SETTINGS = {
    "database.name": "aimle",
    "hfl.join_timeout": 60.0,
    "hfl.round_timeout": 60.0,
    "hfl.call_timeout": 5.0,
    "hfl.lease": 3.0,
    "outbox.timeout": 1.0,
}
DISCOVER = "/aimles-disc/v1/clients"
STORAGES = "/mlr-mlmm/v1/storages"
REGISTER = "/aimles-client-reg/v1/registrations"
PROFILE = "/aimle-hfl/v1/models/m/training-profile"


class DatabaseProcess:
    """A database below `folder`, which begins when it is started.

    Attributes:
        url: where it listens, whenever it runs.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"mongodb://127.0.0.1:{self._port}/?directConnection=true"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start it and do not wait."""
        arguments = [
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
            "--storage-path",
            str(self._folder),
            "--sync-on-commit",
        ]
        with (self._folder.parent / "database.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "secantus", *arguments, "--log-level", "WARNING"],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )

    async def start(self) -> None:
        """Start it; it answers when this returns."""
        self.begin()
        await eventually(self._answers, 30)

    async def take_away(self, way: signal.Signals) -> None:
        """Kill it, stop it in good order, or let it hang: connections stay, new ones are taken, nobody answers."""
        assert self._process
        self._process.send_signal(way)
        if way is not signal.SIGSTOP:
            await asyncio.to_thread(self._process.wait, 30)
            self._process = None

    async def give_back(self) -> None:
        """Let it answer again."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)
        else:
            await self.start()

    def end(self) -> None:
        """Leave nothing behind, in whatever state it is."""
        if self._process:
            self._process.kill()
            self._process.wait()

    async def _answers(self) -> bool:
        try:
            database = await connect(self.url, "admin")
        except Unavailable:
            return False
        await database.close()
        return True


@contextmanager
def database_process(folder: Path) -> Iterator[DatabaseProcess]:
    """A database that does not run yet, and does not any more at the end."""
    database = DatabaseProcess(folder / "database")
    yield database
    database.end()


@dataclass
class Answered:
    """One answer: which operation, its status, how long it took in seconds, its headers and body."""

    operation: str
    status: int
    seconds: float
    headers: dict[str, str] = field(repr=False)
    body: Any

    def check(self) -> None:
        """It came in time, and if it says that the database is away, it says it as it should."""
        assert self.seconds < ANSWERED_WITHIN, self
        assert self.status < 500 or self.status == 503, self
        if self.status == 503:
            assert self.headers["Content-Type"].startswith("application/problem+json")
            assert self.body["status"] == 503
            assert 0 < int(self.headers["Retry-After"]) <= 10


@dataclass
class Caller:
    """Requests to a server, one connection each."""

    url: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> Answered:
        """An answer and how long it took."""
        began = time.monotonic()
        async with self.session.request(method, self.url + path, **options) as response:
            content = await response.read()
            body = json.loads(content) if "json" in response.content_type else content
            taken = time.monotonic() - began
            return Answered(f"{method} {path}", response.status, taken, dict(response.headers), body)

    async def status(self, path: str) -> int:
        """Of a GET."""
        return (await self.call("GET", path)).status

    def operations(self, number: int) -> list[Awaitable[Answered]]:
        """Reads and writes, also those that need a transaction; each call of another `number`."""
        query = {"filt-criteria": json.dumps(criteria())}
        models = storage(profile(f"m-{number}", storeDiscReqs=PUBLIC))
        return [
            self.call("GET", DISCOVER, params=query),
            self.call("POST", REGISTER, json=reg_info(f"ue-{number}")),
            self.call("POST", STORAGES, json=models),
            self.call("GET", STORAGES),
            self.call("PUT", PROFILE, json={"strategy": "FEDAVG"}),
        ]

    async def ready(self) -> None:
        """Return when `/readyz` says so."""

        async def is_ready() -> bool:
            return await self.status("/readyz") == 200

        await eventually(is_ready, 30)

    async def not_ready(self) -> None:
        """Return when `/readyz` says that the server is not; it says so soon."""

        async def is_not() -> bool:
            return await self.status("/readyz") == 503

        await eventually(is_not, NOTICED_WITHIN)


@asynccontextmanager
async def serving(database: DatabaseProcess) -> AsyncIterator[Caller]:
    """A server on this database that takes every request."""
    async with (
        running_server({**SETTINGS, "database.url": database.url}) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session,
    ):
        yield Caller(server.url, session)


@asynccontextmanager
async def asking(server: Caller) -> AsyncIterator[list[Answered]]:
    """A hundred requests a second for the time of the block; their answers are all there at its end."""
    answers: list[Answered] = []

    async def ask(operation: Awaitable[Answered]) -> None:
        answers.append(await operation)

    async def begin_asking(group: asyncio.TaskGroup) -> None:
        for number in itertools.count():
            for operation in server.operations(number):
                group.create_task(ask(operation))
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        beginning = group.create_task(begin_asking(group))
        yield answers
        beginning.cancel()

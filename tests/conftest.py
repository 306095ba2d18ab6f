"""What many tests need: a database server that several modules share, and an empty database for each test."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from ml_repository.database import Database, connect
from ml_repository.embedded import EmbeddedDatabase
from tests import support_commands

support_commands.record()

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # of tests that import onnxruntime themselves

DATABASES = 150
"""So many one server has: a search in SecantusDB passes by what was deleted before, whatever database that was in,
and in the end takes ten times as long."""

collect_ignore = ["conformance"]
"""That suite has options and a `pytest.ini` of its own: `make conformance`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the other tests comes after them."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@dataclass
class DatabaseServer:
    """One at a time, and a new one after `DATABASES`; nobody kills it, so it need not force commits to the disk."""

    folders: pytest.TempPathFactory
    databases: int = 0
    _running: EmbeddedDatabase | None = None

    def url(self) -> str:
        """Where it listens, until the next call."""
        if self._running is None or self.databases >= DATABASES:
            self.stop()
            self.databases = 0
            self._running = EmbeddedDatabase(self.folders.mktemp("mongo"), sync=False)
            asyncio.run(self._running.start())
        return self._running.url

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._running is not None:
            asyncio.run(self._running.stop())


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """The server of the test databases."""
    server = DatabaseServer(tmp_path_factory)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mongo_url(database_server: DatabaseServer) -> str:
    """Where the module's database server listens."""
    return database_server.url()


@pytest.fixture
async def database(mongo_url: str, database_server: DatabaseServer) -> AsyncIterator[Database]:
    """An empty database, dropped when the test is over."""
    database_server.databases += 1
    connection = await connect(mongo_url, f"test_{uuid.uuid4().hex}")
    yield connection
    # A server that was killed may have left a transaction, for which dropping would wait.
    await connection.client.admin.command("killAllSessions", [])
    await connection.client.drop_database(connection.db.name)
    await connection.close()

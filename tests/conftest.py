"""What many tests need: one database server for each module, one empty database for each test."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ml_repository.database import Database, connect
from ml_repository.embedded import EmbeddedDatabase
from tests import support_commands

support_commands.record()

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # of tests that import onnxruntime themselves

collect_ignore = ["conformance"]
"""That suite has options and a `pytest.ini` of its own: `make conformance`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the other tests comes after them."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="module")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the module's database server listens.

    It is not for the whole run: a search in SecantusDB passes by what was deleted before, in any database, and
    after a thousand of them takes ten times as long. Nobody kills it, so it need not force commits to the disk.
    """
    server = EmbeddedDatabase(Path(tmp_path_factory.mktemp("mongo")), sync=False)
    yield asyncio.run(server.start())
    asyncio.run(server.stop())


@pytest.fixture
async def database(mongo_url: str) -> AsyncIterator[Database]:
    """An empty database, dropped when the test is over."""
    connection = await connect(mongo_url, f"test_{uuid.uuid4().hex}")
    yield connection
    # A server that was killed may have left a transaction, for which dropping would wait.
    await connection.client.admin.command("killAllSessions", [])
    await connection.client.drop_database(connection.db.name)
    await connection.close()

"""The database is away at the start, or goes for a while: what callers are told, and when."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_repository.database import connect
from tests.support_away import WAYS, DatabaseProcess, asking, database_process, serving

pytestmark = pytest.mark.faults


@pytest.fixture
def database(tmp_path: Path) -> Iterator[DatabaseProcess]:
    """A database that does not run yet."""
    with database_process(tmp_path) as process:
        yield process


async def test_a_server_starts_without_its_database(database: DatabaseProcess) -> None:
    """It is alive and not ready, operations answer 503; it begins to work by itself when the database comes."""
    async with serving(database) as server:
        assert await server.status("/healthz") == 200
        assert await server.status("/readyz") == 503
        for answer in await asyncio.gather(*(each for n in range(20) for each in server.operations(n))):
            answer.check()
            assert answer.status == 503
            assert answer.seconds < 2, "nobody waits for what is known to be away"
        await asyncio.sleep(5)
        await database.start()
        await server.ready()
        for answer in await asyncio.gather(*server.operations(1)):
            assert answer.status < 300, answer
        connection = await connect(database.url, "aimle")
        assert "_tags_1__place_1" in await connection["registrations"].index_information()
        await connection.close()


async def test_a_server_starts_with_a_silent_database(database: DatabaseProcess) -> None:
    """A database that takes connections and does not answer is waited for as one that is not there."""
    await database.start()
    await database.take_away(signal.SIGSTOP)
    began = time.monotonic()
    async with serving(database) as server:
        assert time.monotonic() - began < 10
        assert await server.status("/healthz") == 200
        assert await server.status("/readyz") == 503
        await database.give_back()
        await server.ready()
        for answer in await asyncio.gather(*server.operations(1)):
            assert answer.status < 300, answer


@WAYS
async def test_requests_do_not_pile_up(database: DatabaseProcess, way: signal.Signals) -> None:
    """However many ask while it goes, is away and comes back: each is answered in time, with 503 if not as usual."""
    await database.start()
    async with serving(database) as server, asking(server) as answers:
        await asyncio.sleep(1)
        await database.take_away(way)
        await server.not_ready()
        assert await server.status("/healthz") == 200
        await asyncio.sleep(5)
        await database.give_back()
        await server.ready()
        for answer in await asyncio.gather(*server.operations(100_000)):
            assert answer.status < 300, answer
    for answer in answers:
        answer.check()
    assert sum(answer.status == 503 for answer in answers) > 50
    assert sum(answer.status < 300 for answer in answers) > 50

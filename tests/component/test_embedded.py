"""The embedded database: real processes, started, stopped and killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from pymongo.errors import ConnectionFailure

from ml_repository import embedded
from ml_repository.database import connect, translate
from ml_repository.embedded import EmbeddedDatabase, EmbeddedDatabaseError
from sbi.errors import Unavailable
from tests.support import eventually

SERVER = """
import asyncio, signal, sys
from pathlib import Path
from ml_repository.database import connect
from ml_repository.embedded import EmbeddedDatabase

async def main():
    async with EmbeddedDatabase(Path(sys.argv[1])) as server:
        database = await connect(server.url, "aimle")
        for number in range(200):
            await database["writes"].insert_one({"_id": number})
        print(server.url, flush=True)
        await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would inherit that it is ignored
asyncio.run(main())
"""


async def test_documents_are_there_after_a_restart(tmp_path: Path) -> None:
    """What was written before a stop is read after the next start, on whatever port that is."""
    async with EmbeddedDatabase(tmp_path / "data") as server:
        await _insert(server.url, 7)
    async with EmbeddedDatabase(tmp_path / "data") as server:
        assert await _stored(server.url) == [7]
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700, "only the server's user may look inside"
    assert modes == {"db": 0o700, "db.lock": 0o600, "db.log": 0o600, "db.toml": 0o600}


async def test_a_database_stops_at_once(tmp_path: Path) -> None:
    """Who stops it waits for what it still has to write, and not for anything else."""
    async with EmbeddedDatabase(tmp_path) as server:
        await _insert(server.url, 7)
        began = time.monotonic()
    assert time.monotonic() - began < 2, "for a listener that nobody wakes it would wait as long"


async def test_a_killed_server_leaves_no_process_and_loses_no_write(tmp_path: Path) -> None:
    """kill -9 of the server ends its database, and the next start reads every acknowledged write."""
    with _server(tmp_path) as server:
        held_by = _processes_on(tmp_path)
        server.kill()
    assert len(held_by) >= 2
    assert _within(15, lambda: not _processes_on(tmp_path))
    async with EmbeddedDatabase(tmp_path) as restarted:
        assert await _stored(restarted.url) == list(range(200))


async def test_a_server_started_at_once_after_a_kill_waits_for_the_old_database(tmp_path: Path) -> None:
    """A supervisor that restarts a killed server immediately gets a running one, not a lock error."""
    with _server(tmp_path) as server:
        server.kill()
        server.wait()
        async with EmbeddedDatabase(tmp_path) as restarted:
            assert await _stored(restarted.url) == list(range(200))


async def test_ctrl_c_in_the_terminal_leaves_the_database_to_the_server(tmp_path: Path) -> None:
    """SIGINT to the server's process group does not reach the database, which ends after the server has."""
    with _server(tmp_path) as server:
        children = _processes_on(tmp_path) - {server.pid}
        assert children
        assert all(os.getpgid(pid) != os.getpgid(server.pid) for pid in children)
        os.killpg(server.pid, signal.SIGINT)
        server.wait(30)
    assert not _processes_on(tmp_path)


async def test_acknowledged_writes_survive_kill_9_of_the_database(tmp_path: Path) -> None:
    """A database that is killed while writing comes back by itself, with every write that was answered."""
    acknowledged: list[int] = []
    async with EmbeddedDatabase(tmp_path) as server:
        writing = asyncio.create_task(_write_on(server.url, acknowledged))
        for _ in range(2):
            await _more(acknowledged)
            _kill_database(tmp_path)
        await _more(acknowledged)
        writing.cancel()
    async with EmbeddedDatabase(tmp_path) as server:
        assert set(acknowledged) <= set(await _stored(server.url))


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
async def test_a_killed_supervisor_takes_the_database_with_it(tmp_path: Path) -> None:
    """kill -9 of the process between server and database leaves no database without a master."""
    server = EmbeddedDatabase(tmp_path)
    await server.start()
    for pid in _matching(tmp_path, "embedded_supervisor"):
        os.kill(pid, signal.SIGKILL)
    assert _within(5, lambda: not _matching(tmp_path, "secantus"))
    await server.stop()


async def test_a_second_server_on_the_directory_is_refused_by_name(tmp_path: Path) -> None:
    """Who holds the directory is in the error, and the first server goes on undisturbed."""
    async with EmbeddedDatabase(tmp_path) as first:
        with pytest.raises(EmbeddedDatabaseError, match=rf"{tmp_path} is in use .*process {os.getpid()}"):
            await EmbeddedDatabase(tmp_path).start()
        await _insert(first.url, 1)


async def test_a_database_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    """The error carries the end of the database's log, and nothing stays behind."""
    (tmp_path / "db.toml").write_text("[nonsense]\n")
    with pytest.raises(EmbeddedDatabaseError, match=r"(?s)ended with code 2.*nonsense"):
        await EmbeddedDatabase(tmp_path).start()
    assert not _processes_on(tmp_path)


async def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without the `embedded` extra says which package to install."""
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedDatabaseError, match=r"aimle\[embedded\]"):
        await EmbeddedDatabase(tmp_path).start()


async def test_without_forced_commits_it_starts_and_writes_too(tmp_path: Path) -> None:
    """`sync=False` changes what a crash may take and nothing else."""
    async with EmbeddedDatabase(tmp_path, sync=False) as server:
        await _insert(server.url, 3)
        assert await _stored(server.url) == [3]


async def test_a_stopped_database_is_unavailable(tmp_path: Path) -> None:
    """When the database is gone, ping, connecting and operations end as `Unavailable`, in seconds."""
    async with EmbeddedDatabase(tmp_path) as server:
        url = server.url
        database = await connect(url, "aimle")
        await database.ping()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        await database.ping()
    assert time.monotonic() - started < 3
    with pytest.raises(Unavailable, match="does not answer"):
        await connect(url, "aimle")
    with pytest.raises(ConnectionFailure) as raised:
        await database["writes"].find_one()
    error = translate(raised.value)
    assert isinstance(error, Unavailable)
    assert error.retry_after == 5
    await database.close()


async def _insert(url: str, number: int) -> None:
    database = await connect(url, "aimle")
    await database["writes"].insert_one({"_id": number})
    await database.close()


async def _stored(url: str) -> list[int]:
    database = await connect(url, "aimle")
    numbers = [document["_id"] async for document in database["writes"].find().sort("_id", 1)]
    await database.close()
    return numbers


async def _write_on(url: str, acknowledged: list[int]) -> None:
    database = await connect(url, "aimle")
    try:
        for number in count():
            with suppress(ConnectionFailure):
                await database["writes"].insert_one({"_id": number})
                acknowledged.append(number)
    finally:
        await database.close()


async def _more(acknowledged: list[int]) -> None:
    """Return when another hundred writes were answered."""
    enough = len(acknowledged) + 100
    await eventually(lambda: len(acknowledged) >= enough, 30)


@contextmanager
def _server(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process of its own group that has written 200 documents."""
    command = [sys.executable, "-c", SERVER, str(data_dir)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"mongodb://")
        yield server
        server.kill()


def _kill_database(data_dir: Path) -> None:
    for pid in _matching(data_dir, "secantus") - _matching(data_dir, "embedded_supervisor"):
        os.kill(pid, signal.SIGKILL)


def _matching(data_dir: Path, word: str) -> set[int]:
    lines = subprocess.run(
        ["ps", "-ww", "-axo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    return {int(line.split()[0]) for line in lines.splitlines() if f"{data_dir}/db" in line and word in line}


def _processes_on(data_dir: Path) -> set[int]:
    return _matching(data_dir, "")


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()

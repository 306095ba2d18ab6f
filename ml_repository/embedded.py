"""The default database: SecantusDB, run as a child process on loopback, its data in one directory.

SecantusDB speaks MongoDB's wire protocol on WiredTiger. It is another program under another licence: it is
started, never imported. It has no password here, so the machine's other users can reach it: for a machine
that several people share, and for more than one server, use a MongoDB of your own.

In the data directory (mode 0700):
    db/      the documents.
    db.lock  locked by the server, the supervisor and the database; no lock survives the last of them.
             Says which process holds it and where the database listens (the port changes with each start).
    db.log   the database's own log; the previous one is db.log.1.
    db.toml  settings of SecantusDB, e.g. its cache; empty until somebody writes there.

What survives: every commit is forced to the disk before it is acknowledged, so an acknowledged write is there
again after kill -9 of the server, of the supervisor or of the database itself, and after a power failure.
With `sync=False` WiredTiger keeps the end of its log in memory: still nothing is lost when the server is
killed (its database then stops in good order), but when the database itself is killed the last 50 ms or so of
acknowledged writes are gone. On disks with a slow flush that is the price for a multiple of the small writes.
A database that ends by itself, whyever, is started again; until it answers it is away like any other.

Under systemd use `KillMode=mixed`: otherwise the database gets SIGTERM at the same moment as the server,
which still has something to write. A terminal's Ctrl-C reaches the server only.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ml_repository import embedded_supervisor
from ml_repository.database import connect
from sbi.errors import Unavailable

GRACE_SECONDS = 10.0
"""How long the database may take to stop before it is killed."""
_START_SECONDS = 30.0
_POLL_SECONDS = 0.02
_LOG_BYTES = 1 << 20
_LOG_TAIL = 2_000
# Nobody reads its change streams, and a long oplog holds every model a second time.
_SMALL_OPLOG = ("--oplog-retention-seconds", "60", "--oplog-max-entries", "1000")


class EmbeddedDatabaseError(Exception):
    """The database cannot be started; the message says why and what to do."""


class EmbeddedDatabase:
    """A database of our own, from `start` (or `async with`) to `stop`; needs a POSIX system.

    Attributes:
        url: where it listens, in the form that `database.connect` takes; empty while it does not run.
    """

    def __init__(self, data_dir: Path, *, sync: bool = True) -> None:
        """`data_dir` is made if it is not there; `sync` forces each commit to the disk first."""
        self.url = ""
        self._dir = data_dir.absolute()
        self._sync = sync
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Start it and return its URL once it answers.

        Raises:
            EmbeddedDatabaseError: not installed, the directory is in use, or it did not come up.
        """
        if importlib.util.find_spec("secantus") is None:
            raise EmbeddedDatabaseError(
                "no database: install the extra `embedded` (pip install 'aimle[embedded]')"
                " or name a MongoDB to use"
            )
        _make_private(self._dir / "db")
        self._lock = await _lock(self._dir / "db.lock")
        try:
            port = _free_port()
            self._process = self._spawn(port, self._lock)
            await self._until_it_answers(port)
            self._keep_alive()
        except BaseException:
            await self.stop()
            raise
        self.url = _url(port)
        os.pwrite(self._lock, _owner(self.url), 0)
        return self.url

    async def stop(self) -> None:
        """Stop it and wait: SIGTERM, then SIGKILL after `GRACE_SECONDS`. Harmless when it does not run."""
        self.url = ""
        if self._process is not None:
            assert self._process.stdin is not None  # noqa: S101 - it was made with a pipe
            self._process.stdin.close()
            code = await _ended(self._process, GRACE_SECONDS + 5)
            if (
                code is None or code < 0
            ):  # the supervisor hangs or was killed: it no longer sees to the database
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await _ended(self._process, GRACE_SECONDS)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _spawn(self, port: int, lock: int) -> subprocess.Popen[bytes]:
        """The supervisor, in a session of its own, which runs the database."""
        # -P: neither the data directory nor this package may shadow a module of the database.
        python = [sys.executable, "-P"]
        supervisor = [embedded_supervisor.__file__, str(GRACE_SECONDS), str(lock), str(port)]
        settings = self._dir / "db.toml"
        settings.touch(mode=0o600)
        database = ["-m", "secantus", "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)]
        database += ["--storage-path", str(self._dir / "db"), "--log-level", "WARNING", *_SMALL_OPLOG]
        database += ["--sync-on-commit"] if self._sync else []
        with _open_log(self._dir / "db.log") as log:
            return subprocess.Popen(  # noqa: S603 - no part of it comes from a caller
                [*python, *supervisor, *python, *database],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._dir,
                env=_environment(),
                pass_fds=[lock],
                start_new_session=True,
            )

    async def _until_it_answers(self, port: int) -> None:
        assert self._process is not None  # noqa: S101 - called right after it was made
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if await _listens(port):
                with contextlib.suppress(Unavailable):
                    database = await connect(_url(port), "admin")
                    await database.close()
                    return
            await asyncio.sleep(_POLL_SECONDS)
        ended = self._process.poll()
        what = f"answered nothing in {_START_SECONDS:.0f} s" if ended is None else f"ended with code {ended}"
        raise EmbeddedDatabaseError(
            f"the database {what}; the end of {self._dir / 'db.log'}:\n{self._log_tail()}"
        )

    def _keep_alive(self) -> None:
        """The supervisor starts it again, on the same port, when it ends without having been told to."""
        assert self._process is not None  # noqa: S101 - called right after it was made
        assert self._process.stdin is not None  # noqa: S101 - it was made with a pipe
        os.write(self._process.stdin.fileno(), b"1")

    def _log_tail(self) -> str:
        return (self._dir / "db.log").read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()


def _make_private(directory: Path) -> None:
    try:
        for path in (directory.parent, directory):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedDatabaseError(f"cannot keep data in {directory.parent}: {error.strerror}") from error


async def _lock(path: Path) -> int:
    """The locked file's descriptor; waits while the database of a server that is gone still stops."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + GRACE_SECONDS + 5
    while not _try_lock(descriptor):
        owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        pid = re.match(r"process (\d+)", owner)
        if (pid and _is_alive(int(pid[1]))) or time.monotonic() > deadline:
            os.close(descriptor)
            raise EmbeddedDatabaseError(f"{path.parent} is in use by another server ({owner})")
        await asyncio.sleep(_POLL_SECONDS)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, _owner("starting"), 0)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one that was killed and that its parent has not looked after yet does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] != "Z"


def _owner(state: str) -> bytes:
    return f"process {os.getpid()} {state}\n".encode()


def _environment() -> dict[str, str]:
    """This process's, without settings of the database, and with two heaps for all its threads: a third less memory."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SECANTUS_")}
    return {"MALLOC_ARENA_MAX": "2"} | own


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code, or None when it still runs after so many seconds."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(_POLL_SECONDS)
    return process.poll()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _url(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true"


def _open_log(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_name("db.log.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")

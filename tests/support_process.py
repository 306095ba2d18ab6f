"""The command line and the server as processes of their own, and the outbox in the server's database."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aimle_server.settings import load
from aimle_server.token_command import open_database
from ml_repository.database import Database
from ml_repository.outbox import Outbox

DATA = "data"
"""Below the folder of a test: the data directory."""

CRASHING = str(Path(__file__).parent / "faults" / "crashing_server.py")
"""A server that kills itself."""


def _environment(extra: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")} | extra


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str


async def aimle(folder: Path, *args: str, **environ: str) -> Result:
    """What `aimle-server ARGS` does, with nothing of ours in the environment but the data directory and `environ`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aimle_server", *args),
        cwd=folder,
        env=_environment({"AIMLE_SERVER_DATA_DIR": DATA, **environ}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def server_process(
    folder: Path, *flags: str, within: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`aimle-server run` with the embedded database, answering; killed at the end if it still runs.

    `within` is a command that becomes the one that its further arguments name.
    """
    with (folder / "log").open("a") as log:
        process = await asyncio.create_subprocess_exec(
            *(*within, sys.executable, "-m", "aimle_server", "run", "--port", "0", *flags),
            cwd=folder,
            env=_environment({"AIMLE_SERVER_DATA_DIR": DATA}),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line.startswith("aimle-server is ready at http"), (folder / "log").read_text()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def peak_memory(process: asyncio.subprocess.Process) -> int:
    """The most memory that a process has ever held, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@asynccontextmanager
async def outbox_of(folder: Path) -> AsyncIterator[Outbox]:
    """The outbox in the embedded database of the server that runs there."""
    async with open_database(load({"server.data_dir": str(folder / DATA)}, environ={})) as database:
        yield Outbox(database)


@dataclass
class Server:
    """`aimle-server run` on a given database, in a process of its own, again and again on the same port."""

    folder: Path
    environment: Mapping[str, str]
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its apiRoot."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *crash: str, data: str = "data") -> None:
        """Return when it answers; `crash` are arguments of `crashing_server.py`."""
        command = [CRASHING, *crash] if crash else ["-m", "aimle_server"]
        with (self.folder / "log").open("a") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command, "run", "--port", str(self.port), "--data-dir", data),
                cwd=self.folder,
                env=self.environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode()
        assert line.startswith("aimle-server is ready"), (self.folder / "log").read_text()
        self.port = int(line.rpartition(":")[2])

    async def has_died(self) -> None:
        """Return when it has killed itself."""
        assert self.process is not None
        async with asyncio.timeout(20):
            await self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL

    def terminate(self) -> None:
        """SIGTERM, and do not wait."""
        assert self.process is not None
        self.process.terminate()

    async def stop(self) -> int:
        """SIGTERM if it has not come yet, and wait; the exit status."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        async with asyncio.timeout(30):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def kill(self) -> None:
        """SIGKILL, as by the kernel or a power cut."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()

    @classmethod
    def on(cls, folder: Path, url: str, database: Database, **environ: str) -> "Server":
        """A server for this database that takes every request and soon takes over what nobody drives."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
        return cls(
            folder,
            clean
            | {
                "AIMLE_DATABASE_URL": url,
                "AIMLE_DATABASE_NAME": database.db.name,
                "AIMLE_AUTH_INSECURE_NO_AUTH": "true",
                "AIMLE_HFL_LEASE": "0.5",
                "AIMLE_OUTBOX_TIMEOUT": "0.3",  # a dead process keeps its streams for three times as long
                "AIMLE_OUTBOX_BACKOFF": "0.1",
            }
            | environ,
        )

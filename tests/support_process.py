"""The command line and the server as processes of their own, and the outbox in the server's database."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aimle_server.settings import load
from aimle_server.token_command import open_database
from ml_repository.outbox import Outbox

DATA = "data"
"""Below the folder of a test: the data directory."""


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

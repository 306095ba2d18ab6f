"""The processes of the demonstration: a server as `aimle-server run` starts it, and the AIMLE clients."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aimle_client.policy import Policy
from aimle_client.trainers.base import Dataset
from aimle_server.apis import ALL_APIS
from aimle_server.demo import ue
from aimle_server.settings import load
from aimle_server.token_command import open_database
from ml_repository.oauth_clients import OAuthClients

READY = "ready at "
"""What the server's line ends with before its URL."""


class DemoError(Exception):
    """The demonstration did not work; the message says what."""


@asynccontextmanager
async def server_process(directory: Path, *, log_level: str = "WARNING") -> AsyncIterator[str]:
    """A server that keeps its files in `directory`; the URL under which it answers."""
    environment = os.environ | {
        "AIMLE_SERVER_PORT": "0",
        "AIMLE_SERVER_DATA_DIR": str(directory),
        "AIMLE_SERVER_LOG_LEVEL": log_level,
        # Everything is on this machine, which a server in the field would refuse to call.
        "AIMLE_TARGETS_ALLOW": "127.0.0.0/8",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aimle_server", "run", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        line = (await process.stdout.readline()).decode().strip()
        if READY not in line:
            raise DemoError("the server did not start; its log above says why")
        yield line.partition(READY)[2]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def make_credentials(directory: Path, names: Sequence[str]) -> dict[str, str]:
    """An OAuth 2.0 client for each name, as `aimle-server token add` makes it; name -> secret."""
    scopes = [api.scope for api in ALL_APIS]
    settings = load({"server.data_dir": str(directory)}, environ={})
    async with open_database(settings) as database:
        clients = OAuthClients(database)
        return {name: await clients.add(name, scopes) for name in names}


@contextmanager
def client_processes(
    server: str,
    secrets: Mapping[str, str],
    service: str,
    shares: Sequence[Dataset],
    hidden: tuple[int, ...],
    *,
    websocket: bool = False,
    policies: Mapping[str, Policy] | None = None,
) -> Iterator[None]:
    """An AIMLE client process for each name and share, with the policy for its name if there is one.

    They are behind WebSockets or not, and leave when the block ends.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([ue.__name__])
    processes = [
        context.Process(
            target=ue.run,
            args=(name, server, secret, service, share, hidden, websocket, (policies or {}).get(name)),
            daemon=True,
        )
        for (name, secret), share in zip(secrets.items(), shares, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()

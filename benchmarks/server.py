"""`aimle-server run` as a process, with its embedded database and default settings, and what talks to it."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimle_client.trainers.base import Parameters
from aimle_client.val import ClientCredentials, ValServer
from aimle_server.apis import SERVED_APIS
from aimle_server.settings import Settings, load
from aimle_server.token_command import open_database
from ml_repository.database import Database
from ml_repository.oauth_clients import OAuthClients
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key

SERVICE = "val-bench"
"""The VAL service, and the name of its VAL server."""

DATASET = "bench"
SCOPES = [api.scope for api in SERVED_APIS]
START_SECONDS = 60
_READY = "ready at "


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        url: its apiRoot.
        pid: its process; the embedded database is a child of it.
        folder: its data directory.
    """

    url: str
    pid: int
    folder: Path

    @property
    def settings(self) -> Settings:
        """The settings it runs with, as far as its files are concerned."""
        return load({"server.data_dir": str(self.folder)}, environ={})

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Its embedded database."""
        async with open_database(self.settings) as database:
            yield database

    async def add_clients(self, names: Iterable[str]) -> dict[str, str]:
        """OAuth 2.0 clients for everything; name -> secret."""
        async with self.database() as database:
            clients = OAuthClients(database)
            return {name: await clients.add(name, SCOPES) for name in names}

    @asynccontextmanager
    async def database_url(self) -> AsyncIterator[str]:
        """Where its embedded database is."""
        async with self.database() as database:
            client: Any = database.client
            host, port = client.address
            yield f"mongodb://{host}:{port}/?directConnection=true"

    def token(self, name: str) -> str:
        """A bearer token for everything."""
        auth = self.settings.auth
        key = load_or_create_key(self.settings.key_file)
        issuer = TokenIssuer(key, self.settings.issuer, auth.audience, auth.token_lifetime, Clock())
        return issuer.issue(name, SCOPES, None)[0]

    @asynccontextmanager
    async def val(self, secret: str) -> AsyncIterator[ValServer]:
        """The VAL server, without a listener."""
        async with ValServer(self.url, ClientCredentials(SERVICE, secret)) as val:
            yield val


@asynccontextmanager
async def running_server() -> AsyncIterator[Server]:
    """A server with an empty data directory, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="aimle-bench-", ignore_cleanup_errors=True) as folder:
        environment = clean_environment() | {
            "AIMLE_SERVER_PORT": "0",
            "AIMLE_SERVER_DATA_DIR": folder,
        }
        with Path(folder, "log").open("wb") as log:
            async with process("aimle_server", "run", env=environment, log=log.fileno()) as (running, first):
                yield Server(first.partition(_READY)[2], running.pid, Path(folder))


@asynccontextmanager
async def process(
    module: str,
    *args: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    log: int | None = None,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m MODULE ARGS` and the first line that it prints; it is asked to end when the block does."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *args),
        env=clean_environment() if env is None else env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
    )
    assert running.stdin is not None
    assert running.stdout is not None
    try:
        running.stdin.write(stdin)
        running.stdin.close()
        async with asyncio.timeout(START_SECONDS):
            line = (await running.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"{module} did not start")
        yield running, line
    finally:
        with suppress(ProcessLookupError):
            running.send_signal(signal.SIGTERM)
        await running.wait()


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of the server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}


def registration(client_id: str, uri: str, *datasets: str) -> dict[str, Any]:
    """The AimleClientRegInfo of a client that trains, with these data sets."""
    profile: dict[str, Any] = {
        "aimleClientUri": uri,
        "aimlModelTypes": ["NEURAL_NETWORK"],
        "aimlOperations": ["MODEL_TRAINING"],
        "clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"},
        "dataSetAvail": {"dataSetIds": list(datasets or (DATASET,)), "size": 1000},
    }
    services = [{"valServiceId": SERVICE, "servPermLevel": "STANDARD_RESOURCE_USAGE"}]
    return {
        "aimleClientId": {"valUeId": client_id},
        "suppProfiles": [{"clientProfile": profile, "suppServices": services}],
    }


def criteria(*datasets: str) -> dict[str, Any]:
    """ClientDiscCriteria that clients of this service with these data sets fulfil."""
    required: dict[str, Any] = {
        "serviceReq": {"valServId": SERVICE},
        "aimlOpers": ["MODEL_TRAINING"],
        "clientAppCap": {"appType": "FL"},
    }
    return required | ({"datasetReq": {"avail": {"ids": list(datasets)}}} if datasets else {})


def in_tensors(values: npt.NDArray[np.float32]) -> Parameters:
    """A model of these values, cut into ten tensors of nearly the same size."""
    return {f"layer-{number}": part for number, part in enumerate(np.array_split(values, 10))}

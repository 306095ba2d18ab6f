"""A real AIMLE server with tokens, real UEs and the VAL server's client, for the tests of the latter."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from aimle_client.testing import RunningServer, running_server
from aimle_client.tokens import ClientCredentials
from aimle_client.trainers.base import EvalResult, FitResult, Parameters
from aimle_client.ue import AimleClient
from aimle_client.val import ValServer, discovery_criteria
from ml_repository.database import Database

NAMES = ("val-1", "val-2", "ue-1", "ue-2", "ue-3")
SERVICE = "val-vision"
PARAMETERS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3, np.float32)}


class Approaching:
    """A trainer whose model halves its distance to one; its accuracy is how near it is."""

    def fit(self, parameters: Parameters, config: Any) -> FitResult:
        """Half of the way."""
        return FitResult({name: values / 2 + 0.5 for name, values in parameters.items()}, 10, {})

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """1.0 for a model of ones."""
        distance = float(np.mean([np.abs(values - 1).mean() for values in parameters.values()]))
        return EvalResult(10, {"accuracy": max(0.0, 1.0 - distance)})


_stored: dict[tuple[str, ...], tuple[list[dict[str, Any]], Mapping[str, ClientCredentials]]] = {}
"""OAuth clients as a server has stored them, and their secrets: to hash a secret is slow, and is so on purpose."""


@contextlib.asynccontextmanager
async def serving(
    url: str, database: Database, clients: tuple[str, ...] = NAMES, **options: Any
) -> AsyncIterator[RunningServer]:
    """A server with the built-in token issuer, on the test's own database at `url`."""
    where = {"database.url": url, "database.name": database.db.name, "auth.insecure_no_auth": not clients}
    settings = where | {"hfl.join_timeout": 5.0} | options.pop("settings", {})
    documents, credentials = _stored.get(clients, ([], {}))
    if documents:
        await database["oauth_clients"].insert_many(documents)
    async with running_server(settings, clients=() if documents else clients, **options) as running:
        if not documents:
            credentials = running.credentials
            _stored[clients] = await database["oauth_clients"].find().to_list(None), credentials
        yield RunningServer(running.url, credentials)


def val_server(server: RunningServer, name: str = "val-1", **options: Any) -> ValServer:
    """The client of one of the VAL servers."""
    return ValServer(server.url, server.credentials[name], **{"listen": ("127.0.0.1", 0)} | options)


@contextlib.asynccontextmanager
async def ues(
    server: RunningServer, *names: str, trainer: Any = None, **options: Any
) -> AsyncIterator[list[AimleClient]]:
    """AIMLE clients that have the data set `digits`."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            AimleClient(
                name,
                server.url,
                credentials=server.credentials[name],
                services=[SERVICE],
                datasets={"digits": trainer or Approaching()},
                **options,
            )
            for name in names
        ]
        yield [await stack.enter_async_context(client) for client in clients]


def criteria(**changes: Any) -> dict[str, Any]:
    """What the clients of these tests fulfil."""
    return discovery_criteria(SERVICE, datasets=["digits"], **changes)

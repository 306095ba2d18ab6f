"""A VAL server of tests that asks for trainings in plain requests."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aimle_client.http import Connection, open_session
from aimle_client.testing import RunningServer
from aimle_client.tokens import TokenProvider
from aimle_client.val import ValServer
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support_val import PARAMETERS, SERVICE, serving, val_server

Json = dict[str, Any]

GOOD: Json = {
    "trnType": "TRAIN_HFL",
    "members": ["ue-1"],
    "modelInf": {"mlModelId": "digits"},
    "datasetId": ["digits"],
}


@dataclass
class Asking:
    """A VAL server that has stored a model, and its plain requests."""

    server: RunningServer
    val: ValServer
    connection: Connection
    database: Database

    async def request(self, body: Json) -> tuple[int, Json]:
        """POST /request-train as it is: status and body."""
        headers = await self.connection.authorization("aimles-trn")
        url = f"{self.server.url}/aimles-trn/v1/request-train"
        async with self.connection.session.post(url, json=body, headers=headers) as response:
            return response.status, await response.json()


@contextlib.asynccontextmanager
async def asking(url: str, database: Database, **settings: Any) -> AsyncIterator[Asking]:
    """A server, a VAL server and the model `digits`."""
    async with (
        serving(url, database, settings=settings) as server,
        val_server(server) as val,
        open_session() as session,
    ):
        tokens = TokenProvider(session, f"{server.url}/oauth2/token", server.credentials["val-1"], Clock())
        await val.store_model("digits", PARAMETERS, services=[SERVICE])
        yield Asking(server, val, Connection(server.url, session, tokens=tokens), database)

"""Writes that meet an open transaction on the same documents: they wait for it, and never it for them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from ml_repository.database import Database
from ml_repository.outbox import Outbox
from ml_repository.registrations import Registrations
from ml_repository.trainings import Trainings
from tests.support import START, ManualClock

LATER = START + timedelta(days=1)
MESSAGE = {"stream": "s", "died": None, "sequence": 2, "due": START}
DEAD = {**MESSAGE, "died": LATER}

Write = Callable[[Database], Awaitable[Any]]


@pytest.mark.parametrize(
    ("collection", "document", "write"),
    [
        (
            "trainings",
            {"_holder": "h"},
            lambda database: Trainings(database, Outbox(database)).renew("h", ["1"], LATER),
        ),
        (
            "registrations",
            {"_expires": START},
            lambda database: Registrations(database).remove_expired(LATER),
        ),
        ("outbox", DEAD, lambda database: Outbox(database, ManualClock(LATER)).retry_all()),
    ],
)
async def test_a_write_to_many_lets_a_transaction_end(
    database: Database, collection: str, document: dict[str, Any], write: Write
) -> None:
    """A transaction that has changed a document goes on while another writer wants to change it and its likes."""
    await database[collection].insert_one({"_id": "1", **document})
    async with database.transaction() as session:
        await database[collection].update_one({"_id": "1"}, {"$set": {"a": 1}}, session=session)
        waiting = asyncio.create_task(write(database))
        async with asyncio.timeout(10):
            for number in range(20):
                await database[collection].update_one({"_id": "1"}, {"$set": {"a": number}}, session=session)
    async with asyncio.timeout(10):
        await waiting

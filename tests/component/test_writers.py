"""Writes that meet an open transaction on the same documents: they wait for it, and never it for them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from ml_repository.database import Database
from ml_repository.outbox import Outbox
from ml_repository.registrations import Registrations
from ml_repository.trainings import Holder, Trainings
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


KILLED = """
import asyncio, sys
from ml_repository.database import connect

async def main():
    database = await connect(sys.argv[1], sys.argv[2])
    trainings = database["trainings"]
    await trainings.update_one({"_id": "1"}, {"$set": {"_holder": database.process}})
    async with database.transaction() as session:
        await trainings.update_one({"_id": "1"}, {"$set": {"round": 2}}, session=session)
        print("in the middle", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_successor_does_not_wait_for_a_killed_transaction(database: Database, mongo_url: str) -> None:
    """A training whose server was killed inside a transaction is taken over at once, as it was before it."""
    await database["trainings"].insert_one({"_id": "1", "_open": True, "_lease_until": START, "round": 1})
    command = (sys.executable, "-c", KILLED, mongo_url, database.db.name)
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    assert await server.stdout.readline()
    server.kill()
    await server.wait()
    trainings = Trainings(database, Outbox(database))
    async with asyncio.timeout(10):
        claimed = await trainings.claim(Holder("successor", ""), LATER, LATER, 10)
    assert [(document["_id"], document["round"]) for document in claimed] == [("1", 1)]

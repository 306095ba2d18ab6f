"""Loads of AIMLE clients (TS 23.482 8.5.4), one document for each process of the AIMLE server that measures them.

_id    the process
at     when it was written; one that is not written any more is of a process that has stopped
loads  AIMLE client IDs and their loads in per cent
"""

from collections.abc import Container, Mapping
from datetime import datetime, timedelta

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document

COLLECTION = "loads"

FRESH = timedelta(minutes=1)
"""So long a process's loads count after it has written them."""

INDEXES = {COLLECTION: [IndexModel([("at", ASCENDING)], expireAfterSeconds=3600)]}


class Loads:
    """The loads in one database."""

    def __init__(self, database: Database) -> None:
        self._documents = database[COLLECTION]
        self._process = database.process

    async def write(self, loads: Mapping[str, int], now: datetime) -> None:
        """What this process knows, in place of what it has written before."""
        pairs = [{"client": client, "load": load} for client, load in loads.items()]
        await self._documents.replace_one({"_id": self._process}, {"at": now, "loads": pairs}, upsert=True)

    async def of(self, client_ids: Container[str], now: datetime) -> dict[str, int]:
        """The loads of those of these clients that are known, in per cent: the highest that a process knows."""
        found: dict[str, int] = {}
        async for document in self._documents.find(fresh(now)):
            for one in document["loads"]:
                client, load = one["client"], one["load"]
                if client in client_ids:
                    found[client] = max(load, found.get(client, 0))
        return found


def fresh(now: datetime) -> Document:
    """Filter: what processes have written that live."""
    return {"at": {"$gt": now - FRESH}}

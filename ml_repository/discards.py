"""Artifacts that are to be deleted: the intent commits with the change that causes it, the bytes go later.

GridFS takes no part in a transaction. So whoever drops a model notes its artifact here in the same
transaction, and whoever writes an artifact notes it first and withdraws the note when a model refers to it.
A process that dies in between leaves a note and not an artifact that nobody knows.
"""

from collections.abc import Iterable
from datetime import datetime

from pymongo import ASCENDING, IndexModel, UpdateOne

from ml_repository.artifacts import Artifacts
from ml_repository.database import Database, Session

INDEXES = {"discards": [IndexModel([("_at", ASCENDING)])]}


class Discards:
    """The notes; one per artifact id, with the moment from which it may be deleted."""

    def __init__(self, database: Database, artifacts: Artifacts) -> None:
        self._notes = database["discards"]
        self._artifacts = artifacts

    async def note(self, artifact_ids: Iterable[str], at: datetime, session: Session | None = None) -> None:
        """Delete these artifacts from `at` on."""
        changes = [UpdateOne({"_id": name}, {"$set": {"_at": at}}, upsert=True) for name in artifact_ids]
        if changes:
            await self._notes.bulk_write(changes, session=session)

    async def withdraw(self, artifact_id: str, session: Session) -> None:
        """Keep this artifact after all."""
        await self._notes.delete_one({"_id": artifact_id}, session=session)

    async def sweep(self, now: datetime) -> None:
        """Delete the artifacts whose moment has come."""
        async for note in self._notes.find({"_at": {"$lte": now}}):
            await self._artifacts.delete(note["_id"])
            await self._notes.delete_one({"_id": note["_id"]})

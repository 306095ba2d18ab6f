"""Trainings as documents: written by compare-and-set, driven by whoever holds the lease (TS 23.482 8.3, 8.12).

A document is what the engine says a training is, plus `_holder` and `_lease_until` (who drives it, until
when), `_open` (not ended, or not cleaned up yet) and `_keys` (the capability keys of its participants).
`version` counts the writes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from ml_repository.database import Database, Document, Session
from ml_repository.outbox import Message, Outbox

COLLECTION = "trainings"

INDEXES: Mapping[str, Sequence[IndexModel]] = {
    COLLECTION: [
        IndexModel([("_open", ASCENDING), ("_lease_until", ASCENDING)]),
        IndexModel([("owner", ASCENDING), ("output_model_id", ASCENDING)]),
        IndexModel([("owner", ASCENDING), ("model_id", ASCENDING), ("_created", DESCENDING)]),
        IndexModel([("owner", ASCENDING), ("_created", DESCENDING)]),
        IndexModel([("_keys", ASCENDING)]),
    ],
    "training_profiles": [IndexModel([("_owner", ASCENDING), ("_model", ASCENDING)], unique=True)],
}


@dataclass(frozen=True)
class Holder:
    """A process that drives trainings.

    Attributes:
        name: the process, as `Database.process` has it.
        address: apiRoot under which the other processes of the deployment reach it.
    """

    name: str
    address: str

    def fields(self, lease_until: datetime) -> Document:
        """What says in a document that this process holds it."""
        return {"_holder": self.name, "_address": self.address, "_lease_until": lease_until}


class LeaseLost(Exception):
    """Another server drives this training now, or wrote it since it was read."""


class Trainings:
    """The store of trainings."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._collection = database[COLLECTION]
        self._outbox = outbox

    async def add(
        self,
        document: Document,
        holder: Holder,
        lease_until: datetime,
        created: datetime,
        first: Callable[[Session], Awaitable[None]],
    ) -> None:
        """A new training, held by `holder` from the start, and with it what `first` writes: both or neither.

        `first` may be called again after a conflict; what it raises passes through.
        """
        leased = {**holder.fields(lease_until), "_open": True, "_created": created}

        async def write(session: Session) -> None:
            await first(session)
            await self._collection.insert_one(document | leased, session=session)

        await self._database.run_in_transaction(write)

    async def find(self, training_id: str, owner: str) -> Document | None:
        """The training with this id, if it is the owner's."""
        return await self._collection.find_one({"_id": training_id, "owner": owner})

    async def by_id(self, training_id: str) -> Document | None:
        """The training with this id, whoever owns it."""
        return await self._collection.find_one({"_id": training_id})

    async def of_owner(self, owner: str, limit: int = 100) -> list[Document]:
        """An owner's trainings, newest first."""
        cursor = self._collection.find({"owner": owner}).sort("_created", DESCENDING).limit(limit)
        return await cursor.to_list(limit)

    async def made(self, owner: str, model_id: str) -> Document | None:
        """The owner's training that made this model."""
        return await self._collection.find_one({"owner": owner, "output_model_id": model_id})

    async def latest(self, owner: str, model_id: str) -> Document | None:
        """The owner's latest training that begins with this model."""
        return await self._collection.find_one(
            {"owner": owner, "model_id": model_id}, sort=[("_created", DESCENDING)]
        )

    async def save(self, document: Document, version: int, holder: str, messages: Sequence[Message]) -> None:
        """Write the training and the notifications it causes, both or neither; doing it again changes nothing.

        Args:
            document: as the engine made it; its `version` is the new one.
            version: the version that this one follows.

        Raises:
            LeaseLost: the stored training is not at `version`, or `holder` does not hold it.
        """
        guard = {"_id": document["_id"], "version": version, "_holder": holder}
        change = {"$set": document}

        async def write(session: Session | None) -> None:
            result = await self._collection.update_one(guard, change, session=session)
            if result.matched_count == 0:
                await self._check_saved(document, holder, session)
            elif messages:
                await self._outbox.enqueue(messages, session)

        if messages:
            await self._database.run_in_transaction(write)
        else:
            await write(None)

    async def _check_saved(self, document: Document, holder: str, session: Session | None) -> None:
        """An earlier attempt whose answer was lost may have written it; nobody else writes as this holder."""
        mine = {"_id": document["_id"], "version": document["version"], "_holder": holder}
        if await self._collection.find_one(mine, {"_id": True}, session=session) is None:
            raise LeaseLost(document["_id"])

    async def close(self, holder: str, training_id: str, last: Callable[[Session], Awaitable[None]]) -> None:
        """Nothing is left to do for a training that has ended: nobody takes it over.

        What `last` writes is written with it, once for each training; it may be called again after a conflict.
        """
        mine = {"_id": training_id, "_holder": holder, "_open": True}

        async def write(session: Session) -> None:
            closed = await self._collection.update_one(mine, {"$set": {"_open": False}}, session=session)
            if closed.matched_count:
                await last(session)

        await self._database.run_in_transaction(write)

    async def hold(self, training_id: str, holder: str, session: Session) -> None:
        """Have the transaction commit only if `holder` drives the training then.

        Raises:
            LeaseLost: it does not now.
        """
        mine = {"_id": training_id, "_holder": holder}
        held = await self._collection.update_one(mine, {"$inc": {"_checkpoints": 1}}, session=session)
        if held.matched_count == 0:
            raise LeaseLost(training_id)

    async def address(self, *, key: str | None = None, training_id: str | None = None) -> str | None:
        """Where the process is reached that drives the open training with this participant's key, or this id."""
        query = {"_id": training_id} if key is None else {"_keys": key}
        found = await self._collection.find_one(query, {"_address": True, "_open": True})
        return found["_address"] if found and found["_open"] else None

    async def claim(self, holder: Holder, now: datetime, until: datetime, limit: int) -> list[Document]:
        """Take over open trainings whose lease has run out; returns those that this call got."""
        claimed = []
        found = self._collection.find({"_open": True, "_lease_until": {"$lt": now}}).limit(limit)
        documents = await found.to_list(limit)
        for process in {document["_holder"] for document in documents}:
            await self._database.end_transactions_of(process)
        for document in documents:
            guard = {"_id": document["_id"], "_lease_until": document["_lease_until"]}
            taken = await self._collection.update_one(guard, {"$set": holder.fields(until)})
            if taken.matched_count:
                claimed.append(document)
        return claimed

    async def renew(self, holder: str, training_ids: Sequence[str], until: datetime) -> None:
        """Hold these a while longer, in one command."""
        change = {"$set": {"_lease_until": until}}
        renewals = [UpdateOne({"_id": each, "_holder": holder}, change) for each in training_ids]
        if renewals:
            await self._collection.bulk_write(renewals, ordered=False)

    async def waiting(self, training_ids: Sequence[str], now: datetime) -> set[str]:
        """Those of them that have not ended and that nobody drives."""
        query = {"_id": {"$in": list(training_ids)}, "_open": True, "_lease_until": {"$lt": now}}
        return {document["_id"] async for document in self._collection.find(query, {"_id": True})}

    async def leased_beyond(self, moment: datetime) -> dict[str, datetime]:
        """Of the open trainings whose leases last beyond `moment`: until when, by id."""
        found = self._collection.find(
            {"_open": True, "_lease_until": {"$gt": moment}}, {"_lease_until": True}
        )
        return {document["_id"]: document["_lease_until"] async for document in found}

    async def end_lease(self, training_id: str, until: datetime, now: datetime) -> None:
        """Let anybody take a training over at once, unless its lease has changed."""
        guard = {"_id": training_id, "_lease_until": until}
        await self._collection.update_one(guard, {"$set": {"_lease_until": now}})

    async def release(self, holder: str, training_ids: Sequence[str], now: datetime) -> None:
        """Let another server take these over at once."""
        await self.renew(holder, training_ids, now)


class TrainingProfiles:
    """Training profiles: how a VAL server wants trainings of a model to be run (our extension)."""

    def __init__(self, database: Database) -> None:
        self._collection = database["training_profiles"]

    async def put(self, owner: str, model_id: str, profile: Mapping[str, Any]) -> None:
        """Set the owner's profile for this model."""
        key = {"_owner": owner, "_model": model_id}
        await self._collection.replace_one(key, key | {"profile": dict(profile)}, upsert=True)

    async def find(self, owner: str, model_id: str) -> Document | None:
        """The profile, as it was put."""
        found = await self._collection.find_one({"_owner": owner, "_model": model_id})
        return found["profile"] if found else None

    async def remove(self, owner: str, model_id: str) -> bool:
        """Forget the profile; says whether there was one."""
        result = await self._collection.delete_one({"_owner": owner, "_model": model_id})
        return result.deleted_count > 0

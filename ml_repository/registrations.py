"""Client registrations (TS 23.482 8.7) in the ML repository, one document for each AIMLE client.

A document is the wire's AimleRegistration and, underscored, what the server needs beside it:

    _id            the client ID (a VAL UE ID or VAL user ID), so that a client is registered once
    _registration  the registration ID of the resource's URI
    _owner         subject that registered it
    _expires       from when it counts no more; every query looks at it, removal only cleans up
    _stated        when the client last described itself, which its dataset's age counts from
    _tags          what a search may require of it, one multikey index for all kinds (`tag`)
    _stats         training rounds the client was `asked` into and `dropped` out of; `offences`: refused updates
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import DuplicateKeyError

from ml_repository.database import Database, Session

Wire = Mapping[str, Any]
Document = dict[str, Any]

COLLECTION = "registrations"
BATCH = 100
"""Documents fetched at a time while a search reads on."""

INDEXES = {
    COLLECTION: [
        IndexModel([("_registration", ASCENDING), ("_owner", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("_tags", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("_expires", ASCENDING)]),
    ]
}


class Registrations:
    """The client registrations of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents = database[COLLECTION]

    async def register(self, document: Document, now: datetime) -> bool:
        """Store a registration in place of the same owner's, or of an expired one; False: another's is live.

        `document` has everything but `_stats`, which the client keeps from one registration to the next.
        """
        client_id, owner = document["_id"], document["_owner"]
        fields = {name: value for name, value in document.items() if name != "_id"}
        try:
            await self._documents.update_one(
                {"_id": client_id, "_owner": owner},
                {"$set": fields, "$setOnInsert": {"_stats": {"asked": 0, "dropped": 0}}},
                upsert=True,
            )
        except DuplicateKeyError:  # another's, so the upsert could only try to insert
            taken_over = await self._documents.update_one(
                {"_id": client_id, "_expires": {"$lte": now}}, {"$set": fields}
            )
            return taken_over.matched_count == 1
        return True

    async def get(self, registration_id: str, owner: str, now: datetime) -> Document | None:
        """The owner's live registration."""
        return await self._documents.find_one(owned(registration_id, owner, now))

    async def update(self, registration_id: str, owner: str, fields: Document, now: datetime) -> bool:
        """Set fields of the owner's live registration; False: there is none."""
        result = await self._documents.update_one(owned(registration_id, owner, now), {"$set": fields})
        return result.matched_count == 1

    async def delete(self, registration_id: str, owner: str, now: datetime) -> bool:
        """Remove the owner's live registration; False: there is none."""
        result = await self._documents.delete_one(owned(registration_id, owner, now))
        return result.deleted_count == 1

    async def candidates(self, required_tags: Sequence[str], now: datetime) -> AsyncGenerator[Document, None]:
        """Live registrations with all the tags, read in batches, only as far as the caller iterates.

        One tag bounds an index, the first one, which should be the rarest; the others are checked here,
        because with `$all` the embedded database reads the whole collection.
        """
        first, *others = required_tags
        cursor = self._documents.find(tagged(first, now), batch_size=BATCH)
        try:
            async for document in cursor:
                if set(others) <= set(document["_tags"]):
                    yield document
        finally:
            await cursor.close()

    async def by_client_ids(self, client_ids: Iterable[str], now: datetime) -> dict[str, Document]:
        """The live registrations of these clients, by client ID; those without one are left out."""
        cursor = self._documents.find(named(client_ids, now))
        return {document["_id"]: document async for document in cursor}

    async def record_participation(
        self, counts: Mapping[str, tuple[int, int]], session: Session | None = None
    ) -> None:
        """Add (rounds asked into, dropped out of) to each client's history; unknown clients are skipped."""
        if counts:
            await self._documents.bulk_write(
                [
                    UpdateOne(
                        {"_id": client_id}, {"$inc": {"_stats.asked": asked, "_stats.dropped": dropped}}
                    )
                    for client_id, (asked, dropped) in counts.items()
                ],
                ordered=False,
                session=session,
            )

    async def record_offence(self, client_id: str) -> None:
        """Count one more refused update in a client's history; an unknown client is skipped."""
        await self._documents.update_one({"_id": client_id}, {"$inc": {"_stats.offences": 1}})

    async def remove_expired(self, now: datetime) -> int:
        """Clean up; the number of registrations removed."""

        async def remove(session: Session) -> int:
            return (await self._documents.delete_many(expired(now), session=session)).deleted_count

        return await self._database.run_in_transaction(remove)


def tag(kind: str, value: str) -> str:
    """One entry of `_tags`; kinds: `svc`, `op`, `app`, `model`, `data`."""
    return f"{kind}:{value}"


def tags(reg_data: Wire) -> list[str]:
    """What any of the profiles of an AimleClientRegInfo states, in the registration's own words."""
    found: set[str] = set()
    for entry in reg_data["suppProfiles"]:
        profile = entry["clientProfile"]
        found.update(tag("svc", service["valServiceId"]) for service in entry["suppServices"])
        found.update(tag("op", operation) for operation in profile["aimlOperations"])
        found.update(tag("model", model) for model in profile.get("aimlModelTypes", ()))
        found.update(
            tag("data", dataset) for dataset in profile.get("dataSetAvail", {}).get("dataSetIds", ())
        )
        found.add(tag("app", profile["clientCap"]["mlAppType"]))
    return sorted(found)


def owned(registration_id: str, owner: str, now: datetime) -> Document:
    """Filter: the owner's live registration."""
    return {"_registration": registration_id, "_owner": owner, "_expires": {"$gt": now}}


def tagged(required: str, now: datetime) -> Document:
    """Filter: live registrations with a tag."""
    return {"_tags": required, "_expires": {"$gt": now}}


def named(client_ids: Iterable[str], now: datetime) -> Document:
    """Filter: live registrations of these clients."""
    return {"_id": {"$in": list(client_ids)}, "_expires": {"$gt": now}}


def expired(now: datetime) -> Document:
    """Filter: registrations that only cleaning up still finds."""
    return {"_expires": {"$lte": now}}

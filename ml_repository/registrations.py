"""Client registrations (TS 23.482 8.7) in the ML repository, one document for each AIMLE client.

A document is the wire's AimleRegistration and, underscored, what the server needs beside it:

    _id            the client ID (a VAL UE ID or VAL user ID), so that a client is registered once
    _registration  the registration ID of the resource's URI
    _owner         subject that registered it
    _expires       from when it counts no more; every query looks at it, removal only cleans up
    _stated        when the client last described itself, which its dataset's age counts from
    _tags          what a search may require of it, one multikey index for all kinds (`tag`)
    _place         where on a ring of `PLACES` places the client stands (`place`); searches read pieces of the ring
    _stats         training rounds the client was `asked` into and `dropped` out of; `offences`: refused updates
"""

import hashlib
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import DuplicateKeyError

from ml_repository.database import Database, Session
from ml_repository.subscriptions import Happened

Wire = Mapping[str, Any]
Document = dict[str, Any]

COLLECTION = "registrations"
BATCH = 100
"""Documents that a search fetches at a time once it has read as many as its caller wanted, and none fitted."""

FEWEST = 16
"""Documents that a search fetches at a time at least, so that it soon finds out how rare they are."""

PLACES = 1 << 30
FIRST_PIECE = PLACES >> 10
"""Places that a search reads before it knows how many of the clients it can use."""

INDEXES = {
    COLLECTION: [
        IndexModel([("_registration", ASCENDING), ("_owner", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("_tags", ASCENDING), ("_place", ASCENDING)]),
        IndexModel([("_expires", ASCENDING)]),
        IndexModel([("_stated", ASCENDING)]),
    ]
}


class Registrations:
    """The client registrations of one database.

    Args:
        database: where they are.
        begin: the place at which a search begins, given the number of places.
    """

    def __init__(self, database: Database, begin: Callable[[int], int] = random.randrange) -> None:
        self._database = database
        self._documents = database[COLLECTION]
        self._begin = begin

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
        """End the owner's live registration now, as if it expired: who watches sees it. False: there is none."""
        result = await self._documents.update_one(
            owned(registration_id, owner, now), {"$set": {"_expires": now}}
        )
        return result.matched_count == 1

    async def events(self, since: datetime, now: datetime) -> list[Happened]:
        """Who has stated something since then, and whose registration has ended."""
        what = {"_tags": True, "_stated": True, "_expires": True}
        stating = await self._documents.find(stated(since), what).to_list(None)
        ending = await self._documents.find({"_expires": {"$gt": since, "$lte": now}}, what).to_list(None)
        return [_happened(one, one["_stated"]) for one in stating] + [
            _happened(one, one["_expires"]) for one in ending
        ]

    async def candidates(
        self, required_tags: Sequence[str], now: datetime, wanted: int = BATCH
    ) -> AsyncGenerator[Document, None]:
        """Live registrations with all the tags, each once, read only as far as the caller iterates.

        It reads at a time what finding the `wanted` ones takes; the caller may take fewer, or more.

        They come as they stand on the ring, from a place that differs from search to search, so that whoever
        takes the first few does not take the same clients each time.

        One tag bounds an index, the first one, which should be the rarest. The rest is checked here: with one
        more condition than the index answers, the embedded database reads all clients that have the tag.
        """
        first, *others = required_tags
        begin, covered, found = self._begin(PLACES), 0, 0
        while covered < PLACES:
            start, end = next_piece(begin, covered, found, wanted)
            async with aclosing(self._standing(first, start, end, max(BATCH, 2 * wanted))) as documents:
                async for document in documents:
                    found += 1
                    if document["_expires"] > now and set(others) <= set(document["_tags"]):
                        yield document
            covered += end - start

    async def _standing(
        self, required: str, start: int, end: int, batch: int
    ) -> AsyncGenerator[Document, None]:
        cursor = self._documents.find(tagged(required, start, end), batch_size=batch)
        try:
            async for document in cursor:
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


def client_topic(client_id: str) -> str:
    """What all events of a client are about; the others are its tags."""
    return f"client:{client_id}"


def _happened(document: Document, at: datetime) -> Happened:
    return Happened(document["_id"], at, [client_topic(document["_id"]), *document["_tags"]])


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


def place(client_id: str) -> int:
    """Where the client stands among the `PLACES`: anywhere, but always there."""
    return int.from_bytes(hashlib.sha256(client_id.encode()).digest()[:8]) % PLACES


def next_piece(begin: int, covered: int, found: int, wanted: int) -> tuple[int, int]:
    """The places to read next, from the first to the last (not included).

    A database may read a whole piece, or all of the ring if it is asked for no piece, to return a few documents
    (the embedded one does). So a piece is as long as it takes, to judge by the pieces before, to find as many as
    are wanted, or as have been found in vain up to `BATCH`, and a quarter more: clients do not stand evenly.

    Args:
        begin: the place at which the search began.
        covered: how many places it has read, fewer than there are.
        found: how many documents it found there.
        wanted: how many would have been enough, if all were of use.
    """
    aim = 5 * max(FEWEST, wanted, min(found, BATCH)) // 4
    length = covered * aim // max(found, 1) if covered else FIRST_PIECE
    start = (begin + covered) % PLACES
    return start, min(start + max(length, 1), start + PLACES - covered, PLACES)


def owned(registration_id: str, owner: str, now: datetime) -> Document:
    """Filter: the owner's live registration."""
    return {"_registration": registration_id, "_owner": owner, "_expires": {"$gt": now}}


def tagged(required: str, start: int, end: int) -> Document:
    """Filter: registrations with a tag, expired ones too, at the places from `start` to `end` (not included)."""
    return {"_tags": required, "_place": {"$gte": start, "$lt": end}}


def named(client_ids: Iterable[str], now: datetime) -> Document:
    """Filter: live registrations of these clients."""
    return {"_id": {"$in": list(client_ids)}, "_expires": {"$gt": now}}


def stated(since: datetime) -> Document:
    """Filter: registrations that were made or changed since then."""
    return {"_stated": {"$gt": since}}


def expired(now: datetime) -> Document:
    """Filter: registrations that only cleaning up still finds."""
    return {"_expires": {"$lte": now}}

"""FL members (TS 23.482 8.4) in the ML repository, one document for each.

A document is the wire's FlMbr and, underscored, what the server needs beside it:

    _id              the flMbrId, so that a member is registered once
    _configuration   the configurationId of the resource's URI, the same in every API
    _owner           subject that registered it
    _begins          from when it counts
    _expires         from when it counts no more; every query looks at it, removal only cleans up
    _stated          when it was last registered or changed
    _version         counts its changes
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from ml_repository.database import Database, Document
from ml_repository.register import Register, expired, validity, wire
from ml_repository.subscriptions import Happened

Wire = Mapping[str, Any]

COLLECTION = "fl_members"

_ANY_MODEL = "*"
"""Stands for the models of a member that names none."""

INDEXES = {
    COLLECTION: [
        IndexModel([("_configuration", ASCENDING), ("_owner", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("suppAimlRole", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("supMlModelId", ASCENDING), ("_expires", ASCENDING)]),
        IndexModel([("_expires", ASCENDING)]),
        IndexModel([("_stated", ASCENDING)]),
    ]
}


class FLMembers(Register):
    """The FL members of one database; what it takes and gives are FlMbr in wire shape."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, COLLECTION, owned, _document)

    async def register(self, configuration_id: str, owner: str, member: Wire, now: datetime) -> bool:
        """Store a member in place of the same owner's, or of an expired one; False: another's is live."""
        document = _document(configuration_id, owner, member, now, version=1)
        same = {"_id": document["_id"]}
        try:
            await self._documents.replace_one(same | {"_owner": owner}, document, upsert=True)
        except DuplicateKeyError:  # another's, or the same owner's of this very moment
            free = {"$or": [{"_owner": owner}, expired(now)]}
            return (await self._documents.replace_one(same | free, document)).matched_count == 1
        return True

    async def events(self, since: datetime, now: datetime) -> list[Happened]:
        """Which members were stated since then, also those that begin later, and which have ended."""
        what = {"suppAimlRole": True, "supMlModelId": True, "_stated": True, "_expires": True}
        stating = await self._documents.find(stated(since), what).to_list(None)
        ending = await self._documents.find({"_expires": {"$gt": since, "$lte": now}}, what).to_list(None)
        return [_happened(one, one["_stated"]) for one in stating] + [
            _happened(one, one["_expires"]) for one in ending
        ]

    async def by_ids(self, member_ids: Iterable[str], now: datetime) -> dict[str, dict[str, Any]]:
        """The members of these names that count now or later, by flMbrId."""
        found = self._documents.find({"_id": {"$in": list(member_ids)}, "_expires": {"$gt": now}})
        return {document["_id"]: wire(document) async for document in found}

    async def to_come(self, role: str, now: datetime) -> AsyncGenerator[dict[str, Any], None]:
        """The members with this role that count now or later, in no order."""
        cursor = self._documents.find(in_role(role, now))
        try:
            async for document in cursor:
                yield wire(document)
        finally:
            await cursor.close()

    async def find(
        self, now: datetime, *, role: str | None = None, model: str | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The members that count now, of anybody, in no order.

        One condition bounds an index, that of the model if there is one. The rest is checked here: with a condition
        more than the index answers, the embedded database reads all members.

        Args:
            now: the moment.
            role: `suppAimlRole` that they have.
            model: `mlModelId` that they name as supported; who names no models is not found by one.

        Raises:
            ValueError: neither a role nor a model.
        """
        if model is not None:
            query = supporting(model, now)
        elif role is not None:
            query = in_role(role, now)
        else:
            raise ValueError("role, model: one of the two says who is wanted")
        cursor = self._documents.find(query)
        try:
            async for document in cursor:
                if document["_begins"] <= now and role in (None, document["suppAimlRole"]):
                    yield wire(document)
        finally:
            await cursor.close()


def member_topic(member_id: str) -> str:
    """What all events of a member are about."""
    return f"fl-member:{member_id}"


def topics_of(role: str, model: str | None) -> list[str]:
    """What events of members with a role are about that may train a model; None: whatever they train."""
    return [_role_topic(role)] if model is None else [_role_topic(role, model), _role_topic(role, _ANY_MODEL)]


def _role_topic(role: str, model: str = "") -> str:
    return f"fl-role:{role}:{model}"


def _happened(document: Document, at: datetime) -> Happened:
    role = document["suppAimlRole"]
    models = document.get("supMlModelId", [_ANY_MODEL])
    about = [_role_topic(role), *(_role_topic(role, model) for model in models)]
    return Happened(document["_id"], at, [member_topic(document["_id"]), *about])


def owned(configuration_id: str, owner: str, now: datetime) -> Document:
    """Filter: the owner's live member."""
    return {"_configuration": configuration_id, "_owner": owner, "_expires": {"$gt": now}}


def in_role(role: str, now: datetime) -> Document:
    """Filter: live members with this role, also those that begin later."""
    return {"suppAimlRole": role, "_expires": {"$gt": now}}


def supporting(model: str, now: datetime) -> Document:
    """Filter: the same, with this model among those that they support."""
    return {"supMlModelId": model, "_expires": {"$gt": now}}


def stated(since: datetime) -> Document:
    """Filter: members that were registered or changed since then."""
    return {"_stated": {"$gt": since}}


def _document(configuration_id: str, owner: str, member: Wire, now: datetime, version: int) -> Document:
    begins, expires = validity(member, now)
    return {
        **member,
        "_id": member["flMbrId"],
        "_configuration": configuration_id,
        "_owner": owner,
        "_begins": begins,
        "_expires": expires,
        "_stated": now,
        "_version": version,
    }

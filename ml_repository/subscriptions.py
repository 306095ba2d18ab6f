"""Subscriptions to what this server watches, of all kinds, in one collection.

    _id        subscription id
    kind       what is watched
    owner      subject that subscribed
    body       the wire's resource
    expires    from when it is gone; every query looks at it
    state      what watching it has to remember
    reporting  what the rule of its reports has to remember
    notified   number of notifications so far, the next one's place in their order
    version    counts the writes of the resource and of what became of it
    topics     what an event must have one of to concern it
    due        when it is to be looked at next
    marks      how often an event has concerned it
    claimed    until when somebody looks at it

An event marks the subscriptions it concerns, and whoever is free looks at them: so an event is not lost when a
process dies, and one that comes while a subscription is being looked at has it looked at once more.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from pymongo import ASCENDING, IndexModel, UpdateOne

from ml_repository.database import Database, Document, Session
from ml_repository.outbox import Message, Outbox
from sbi.clock import NEVER

COLLECTION = "subscriptions"
POSITIONS = "watch_positions"

OF_A_TRAINING = "training"
"""The kind that no API shows: the members of a running training. Only the process that drives it looks at it."""

_NOBODY = datetime(1970, 1, 1, tzinfo=UTC)

INDEXES: Mapping[str, Sequence[IndexModel]] = {
    COLLECTION: [IndexModel([("due", ASCENDING)]), IndexModel([("topics", ASCENDING)])],
}


@dataclass(frozen=True)
class Happened:
    """Something that may concern subscriptions.

    Attributes:
        id: to whom or what; the same at the same moment is one event.
        at: when.
        topics: what it is about.
    """

    id: str
    at: datetime
    topics: Sequence[str]


@dataclass(frozen=True)
class Subscription:
    """A subscription as it was read; the attributes are those above."""

    id: str
    kind: str
    owner: str
    body: Mapping[str, Any]
    expires: datetime
    state: Mapping[str, Any]
    reporting: Mapping[str, Any] = field(default_factory=lambda: {"reports": 0, "next": NEVER})
    notified: int = 0
    version: int = 0
    marks: int = 0
    due: datetime = NEVER
    topics: Sequence[str] = ()

    @classmethod
    def of(cls, document: Document) -> Self:
        """As it is stored."""
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        return cls(id=document["_id"], **known)


@dataclass(frozen=True)
class Looked:
    """What came of looking at a subscription.

    Attributes:
        state, topics: from now on.
        due: when to look again, unless an event comes first.
        notification: the news since the look before, as a body to send, if there are any.
        report: all that is watched as it stands, as a body to send; None: there is nothing to tell.
    """

    state: Mapping[str, Any]
    topics: Sequence[str]
    due: datetime
    notification: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Told:
    """What the subscriber is told of a look.

    Attributes:
        notification: a body to send, if any.
        due: when to look again, unless an event comes first.
        expires, reporting: from now on.
    """

    notification: Mapping[str, Any] | None
    due: datetime
    expires: datetime
    reporting: Mapping[str, Any]


class Subscriptions:
    """The subscriptions of one database."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._documents = database[COLLECTION]
        self._outbox = outbox

    async def add(self, subscription: Subscription, now: datetime, session: Session | None = None) -> None:
        """Store a new one, to be looked at now."""
        fields = {
            name: getattr(subscription, name) for name in subscription.__dataclass_fields__ if name != "id"
        }
        work = {"due": now, "claimed": _NOBODY}
        await self._documents.insert_one({"_id": subscription.id, **fields, **work}, session=session)

    async def restate(
        self, subscription_id: str, body: Mapping[str, Any], now: datetime, session: Session
    ) -> None:
        """Another resource for one that has no URI of its own, to be looked at now."""
        change = {"$set": {"body": dict(body), "due": now}, "$inc": {"version": 1, "marks": 1}}
        await self._documents.update_one({"_id": subscription_id}, change, session=session)

    async def forget(self, subscription_id: str, session: Session) -> None:
        """Delete one that has no URI of its own."""
        await self._documents.delete_one({"_id": subscription_id}, session=session)

    async def get(self, kind: str, subscription_id: str, owner: str, now: datetime) -> Subscription | None:
        """The owner's live subscription."""
        found = await self._documents.find_one(_owned(kind, subscription_id, owner, now))
        return Subscription.of(found) if found else None

    async def replace(self, changed: Subscription, now: datetime) -> bool:
        """Put one that was read and changed in its place, to be looked at now; False: it has changed since.

        What may have changed are `body`, `expires` and `reporting`.
        """
        fields = {name: getattr(changed, name) for name in ("body", "expires", "reporting")}
        change = {"$set": {**fields, "due": now}, "$inc": {"version": 1, "marks": 1}}
        return (await self._documents.update_one(_as_read(changed), change)).matched_count == 1

    async def remove(self, kind: str, subscription_id: str, owner: str, now: datetime) -> Subscription | None:
        """Delete the owner's live subscription; as it was."""
        found = await self._documents.find_one_and_delete(_owned(kind, subscription_id, owner, now))
        return Subscription.of(found) if found else None

    async def exist(self) -> bool:
        """Whether there is any."""
        return await self._documents.find_one({"due": {"$gt": _NOBODY}}, {"_id": True}) is not None

    async def concern(self, topics: Collection[str], now: datetime) -> int:
        """Events have these topics: have the subscriptions that they concern looked at; how many those are."""
        found = await self._documents.find({"topics": {"$in": list(topics)}}, {"_id": True}).to_list(None)
        mark = {"$set": {"due": now}, "$inc": {"marks": 1}}
        if found:
            await self._documents.bulk_write(
                [UpdateOne({"_id": one["_id"]}, mark) for one in found], ordered=False
            )
        return len(found)

    async def claim(self, now: datetime, until: datetime, limit: int) -> list[Subscription]:
        """Up to `limit` that are due and that nobody looks at, for the caller to look at until then."""
        anybodys = {"due": {"$lte": now}, "claimed": {"$lte": now}, "kind": {"$ne": OF_A_TRAINING}}
        cursor = self._documents.find(anybodys).limit(limit)
        claimed = []
        for document in await cursor.to_list(limit):
            guard = {"_id": document["_id"], "claimed": document["claimed"]}
            taken = await self._documents.update_one(guard, {"$set": {"claimed": until}})
            if taken.matched_count:
                claimed.append(Subscription.of(document))
        return claimed

    async def due(self, subscription_ids: Sequence[str], now: datetime) -> list[str]:
        """Those of them that are due, for a process that need not claim them."""
        query = {"_id": {"$in": list(subscription_ids)}, "due": {"$lte": now}}
        return [document["_id"] async for document in self._documents.find(query, {"_id": True})]

    async def save(self, subscription: Subscription, looked: Looked, told: Told, now: datetime) -> bool:
        """Keep what came of looking, and its notification; False: the subscription has changed or gone meanwhile.

        Where an event came meanwhile it is due at once. So it is where it has got new topics: an event with one of
        those may have come meanwhile, and nobody knew then that it was of concern.
        """
        calm = told.due if set(looked.topics) <= set(subscription.topics) else now

        async def write(session: Session) -> bool:
            for guard, due in (({"marks": subscription.marks}, calm), ({}, now)):
                change = {
                    "state": dict(looked.state),
                    "topics": list(looked.topics),
                    "reporting": dict(told.reporting),
                    "expires": told.expires,
                    "due": due,
                    "claimed": _NOBODY,
                    "version": subscription.version + 1,
                    "notified": subscription.notified + (told.notification is not None),
                }
                result = await self._documents.update_one(
                    _as_read(subscription) | guard, {"$set": change}, session=session
                )
                if result.matched_count:
                    break
            else:
                return False
            if told.notification is not None:
                await self._outbox.enqueue([_message(subscription, told.notification)], session)
            return True

        return await self._database.run_in_transaction(write)

    async def release(self, subscription: Subscription) -> None:
        """Let others look at it again."""
        await self._documents.update_one({"_id": subscription.id}, {"$set": {"claimed": _NOBODY}})

    async def drop(self, subscription: Subscription) -> None:
        """Delete it unless it has changed since it was read."""
        await self._documents.delete_one(_as_read(subscription))


class Positions:
    """How far what happens in the database has been followed, by one process at a time."""

    def __init__(self, database: Database) -> None:
        self._documents = database[POSITIONS]

    async def claim(
        self, name: str, holder: str, seen: datetime, now: datetime, until: datetime
    ) -> datetime | None:
        """From where on `holder` is to follow, until then; None: somebody else does.

        `seen` is how far it has come itself; whoever takes over goes on where the one before has come to.
        """
        own = await self._documents.update_one(
            {"_id": name, "holder": holder}, {"$set": {"until": until, "seen": seen}}
        )
        if own.matched_count:
            return seen
        left = {"_id": name, "until": {"$lte": now}}
        taken = await self._documents.find_one_and_update(left, {"$set": {"holder": holder, "until": until}})
        if taken is not None:
            before: datetime = taken["seen"]
            return before
        first = {"$setOnInsert": {"holder": holder, "until": until, "seen": seen}}
        added = await self._documents.update_one({"_id": name}, first, upsert=True)
        return seen if added.upserted_id is not None else None

    async def seen(self, name: str) -> datetime | None:
        """Up to when it has been followed; None: nobody has to follow."""
        found = await self._documents.find_one({"_id": name}, {"seen": True})
        return found["seen"] if found else None

    async def remove(self, name: str, holder: str, now: datetime) -> None:
        """Nobody has to follow any more, unless somebody else does."""
        await self._documents.delete_one({"_id": name, "$or": [{"holder": holder}, {"until": {"$lte": now}}]})


def _owned(kind: str, subscription_id: str, owner: str, now: datetime) -> Document:
    return {"_id": subscription_id, "kind": kind, "owner": owner, "expires": {"$gt": now}}


def _as_read(subscription: Subscription) -> Document:
    return {"_id": subscription.id, "version": subscription.version}


def _message(subscription: Subscription, body: Mapping[str, Any]) -> Message:
    return Message(
        stream=f"{subscription.kind}:{subscription.id}",
        sequence=subscription.notified + 1,
        target=subscription.body["notifUri"],
        body=dict(body),
    )

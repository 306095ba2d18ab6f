"""Notifications to send: written with the state that causes them, kept until their target has taken them.

Messages with one `stream` (a subscription) leave in the order of their sequence: only the first one that is
left, the head, is ever tried. Whoever holds a stream's lease tries it; leases run out by the clocks of the
processes, so those have to agree to within a few seconds.

A message in the collection `outbox`:
    stream, sequence, target, body  the message; `body` as the JSON text that is sent, whatever its keys are
    origin                          scheme, host and port of the target
    created                         when it was enqueued, or revived as a dead letter
    due                             when its stream is to be looked at because of it; None: never
    attempts, status                failed attempts, and the last one's HTTP status (None: no answer)
    died                            when it was given up (a dead letter), else None
A lease in `outbox_streams`: `_id` (the stream), `owner`, `until`. Enqueuing writes no lease, so transactions
that enqueue do not conflict with the dispatcher.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError

from ml_repository.database import Database, Document, Session
from sbi.clock import Clock

MESSAGES = "outbox"
LEASES = "outbox_streams"
DEAD_LETTERS_KEPT = timedelta(days=30)
PARKED = timedelta(hours=1)
"""How far what stands behind a head is put off; it becomes due with its turn, long before that."""

INDEXES: Mapping[str, Sequence[pymongo.IndexModel]] = {
    MESSAGES: (
        pymongo.IndexModel([("due", 1), ("stream", 1)], name="due"),
        pymongo.IndexModel([("stream", 1), ("died", 1), ("sequence", 1)], name="head"),
        pymongo.IndexModel(
            [("died", 1)], name="died", expireAfterSeconds=int(DEAD_LETTERS_KEPT.total_seconds())
        ),
    ),
    # a process that was killed leaves its leases behind
    LEASES: (pymongo.IndexModel([("until", 1)], name="until", expireAfterSeconds=3600),),
}


@dataclass(frozen=True)
class Message:
    """One notification.

    Attributes:
        stream: messages of one stream leave one after the other.
        sequence: place in the stream, 0 or more; within a stream each number is used once.
        target: URL to POST to.
        body: the JSON object to send.
    """

    stream: str
    sequence: int
    target: str
    body: dict[str, Any]

    @property
    def id(self) -> str:
        """Identifies the message in the outbox."""
        return f"{self.stream}:{self.sequence:012d}"


@dataclass(frozen=True)
class Pending:
    """A message in the outbox and what has become of it so far.

    Attributes:
        message: the message.
        created: when it was enqueued, or revived as a dead letter; its age counts from here.
        due: when to try it, if it is the head; None: a dead letter.
        attempts: how often it failed.
        status: HTTP status of the last failure, None if there was no answer.
        died: when it was given up, None if it has not been.
    """

    message: Message
    created: datetime
    due: datetime | None
    attempts: int
    status: int | None
    died: datetime | None


class Outbox:
    """The messages and leases in the database; `clock` tells when something is due."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._messages = database[MESSAGES]
        self._leases = database[LEASES]
        self._clock = clock or Clock()

    async def enqueue(self, messages: Sequence[Message], session: Session | None = None) -> None:
        """Keep the messages for sending; with `session` they exist if its transaction commits.

        A message that is waiting already stays as it is: enqueuing it again changes nothing.
        """
        now = self._clock.now()
        for message in messages:
            await self._messages.update_one(
                {"_id": message.id}, {"$setOnInsert": _document(message, now)}, upsert=True, session=session
            )

    async def due_streams(self, limit: int, except_for: Collection[str] = ()) -> dict[str, str]:
        """Streams to look at now with the origins of their targets, longest waiting first.

        Args:
            limit: bounds the messages that are read.
            except_for: origins whose streams are left out.
        """
        query: Document = {"due": {"$lte": self._clock.now()}}
        if except_for:
            query["origin"] = {"$nin": list(except_for)}
        found = self._messages.find(query, {"_id": 0, "stream": 1, "origin": 1})
        documents = await found.sort("due", 1).limit(limit).to_list(None)
        streams: dict[str, str] = {}
        for document in documents:
            streams.setdefault(document["stream"], document["origin"])
        return streams

    async def claim(self, stream: str, owner: str, seconds: float) -> bool:
        """Take the stream's lease; False if it is taken."""
        now = self._clock.now()
        lease = {"owner": owner, "until": now + timedelta(seconds=seconds)}
        try:
            await self._leases.update_one(
                {"_id": stream, "until": {"$lte": now}}, {"$set": lease}, upsert=True
            )
        except DuplicateKeyError:  # there is a lease, and it has not run out
            return False
        return True

    async def extend(self, stream: str, owner: str, seconds: float) -> bool:
        """Hold the lease for `seconds` from now; False if it ran out and somebody else has it."""
        until = self._clock.now() + timedelta(seconds=seconds)
        result = await self._leases.update_one({"_id": stream, "owner": owner}, {"$set": {"until": until}})
        return bool(result.matched_count)

    async def release(self, stream: str, owner: str) -> None:
        """Give the lease back; nothing happens if it is not the owner's any more."""
        await self._leases.delete_one({"_id": stream, "owner": owner})

    async def head(self, stream: str) -> Pending | None:
        """The first message that is left, None if there is none."""
        return await self._first({"stream": stream, "died": None})

    async def heads(self, limit: int = 1000) -> list[Pending]:
        """The heads of the streams that have something left, by the name of the stream."""
        streams = sorted(await self._messages.distinct("stream", {"died": None}))
        found = [await self.head(stream) for stream in streams[:limit]]
        return [head for head in found if head is not None]

    async def park(self, head: Message) -> None:
        """Put off what stands behind the head, so that a long stream hides no other from `due_streams`."""
        now = self._clock.now()
        behind = {
            "stream": head.stream,
            "died": None,
            "sequence": {"$gt": head.sequence},
            "due": {"$lte": now},
        }
        await self._change_all(behind, {"due": now + PARKED})

    async def delivered(self, message: Message) -> None:
        """Forget a message that its target has taken."""
        await self._wake_next(message)
        await self._messages.delete_one({"_id": message.id})

    async def postponed(self, message: Message, due: datetime, attempts: int, status: int | None) -> None:
        """Note a failed attempt and when to try again; the stream waits until then."""
        await self._set(message, {"due": due, "attempts": attempts, "status": status})

    async def dead(self, message: Message, attempts: int, status: int | None) -> None:
        """Give a message up: it becomes a dead letter, and the stream goes on with the next one."""
        await self._wake_next(message)
        died = self._clock.now()
        await self._set(message, {"due": None, "died": died, "attempts": attempts, "status": status})

    async def dead_letters(self, limit: int = 1000) -> list[Pending]:
        """What was given up within `DEAD_LETTERS_KEPT`, the oldest first."""
        since = self._clock.now() - DEAD_LETTERS_KEPT
        found = self._messages.find({"died": {"$gt": since}})
        return [_pending(document) for document in await found.sort("died", 1).limit(limit).to_list(None)]

    async def retry(self, message_id: str) -> bool:
        """Try a dead letter anew, from its first attempt on; False if there is none with this id."""
        dead = {"_id": message_id, "died": {"$ne": None}}
        result = await self._messages.update_one(dead, {"$set": _untried(self._clock.now())})
        return bool(result.matched_count)

    async def retry_all(self) -> int:
        """Try every dead letter anew; how many there were."""
        now = self._clock.now()
        dead = {"died": {"$gt": now - DEAD_LETTERS_KEPT}}
        return await self._change_all(dead, _untried(now))

    async def make_all_due(self) -> int:
        """End every pause; how many messages waited."""
        now = self._clock.now()
        return await self._change_all({"due": {"$gt": now}}, {"due": now})

    async def drop(self, stream: str, session: Session) -> None:
        """Forget a stream with its dead letters: nobody wants its messages any more."""
        await self._messages.delete_many({"stream": stream}, session=session)

    async def _wake_next(self, message: Message) -> None:
        """The successor becomes due before the head goes, so that a crash in between forgets neither."""
        behind = {"stream": message.stream, "died": None, "sequence": {"$gt": message.sequence}}
        following = await self._first(behind)
        if following is not None:
            await self._set(following.message, {"due": self._clock.now()})

    async def _first(self, query: Document) -> Pending | None:
        found = await self._messages.find(query).sort("sequence", 1).limit(1).to_list(None)
        return _pending(found[0]) if found else None

    async def _change_all(self, query: Document, changes: Document) -> int:
        async def write(session: Session) -> int:
            return (await self._messages.update_many(query, {"$set": changes}, session=session)).matched_count

        return await self._database.run_in_transaction(write)

    async def _set(self, message: Message, changes: Document) -> None:
        await self._messages.update_one({"_id": message.id}, {"$set": changes})


def _document(message: Message, now: datetime) -> Document:
    return {
        "stream": message.stream,
        "sequence": message.sequence,
        "target": message.target,
        "origin": _origin(message.target),
        "body": json.dumps(message.body),
        **_untried(now),
    }


def _origin(target: str) -> str:
    """Scheme, host and port as they are written; `target` itself if it is no URL."""
    found = re.match(r"[^/]*//[^/?#]*", target)
    return found[0].lower() if found else target


def _untried(now: datetime) -> Document:
    return {"created": now, "due": now, "attempts": 0, "status": None, "died": None}


def _pending(document: Document) -> Pending:
    message = Message(
        document["stream"], document["sequence"], document["target"], json.loads(document["body"])
    )
    kept = {name: document[name] for name in ("created", "due", "attempts", "status", "died")}
    return Pending(message, **kept)

"""Notifications to send: written with the state that causes them, kept until their target has taken them.

Messages with one `stream` (a subscription) leave in the order of their sequence: only the first one that is
left, the head, is ever tried. Streams are spread over `SHARDS` shards, and whoever holds a shard's lease serves
its streams; leases run out by the clocks of the processes, so those have to agree to within a few seconds.

A message in the collection `outbox`:
    stream, sequence, target, body  the message; `body` as the JSON text that is sent, whatever its keys are
    shard                           that of its stream
    origin                          scheme, host and port of the target; of a channel of ours, its address
    created                         when it was enqueued, or revived as a dead letter
    due                             when its stream is to be looked at because of it; None: never
    attempts, status                failed attempts, and the last one's HTTP status (None: no answer)
    died                            when it was given up (a dead letter), else None
A lease in `outbox_leases`: `_id` (the shard), `owner`, `process` (the owner's, as its database names it),
`until`. Enqueuing writes no lease, so transactions
that enqueue do not conflict with the dispatcher.

The embedded database reads all that an index finds before it sorts and limits, and each of its commits waits
for the disk: what is read or written for many streams is one query, or one transaction.
"""

import json
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError

from ml_repository.channels import ADDRESSES
from ml_repository.database import Database, Document, Session
from sbi.clock import Clock

MESSAGES = "outbox"
LEASES = "outbox_leases"
SHARDS = 32
"""Enough for several processes to share the work; each lease is a write."""
DEAD_LETTERS_KEPT = timedelta(days=30)
PARKED = timedelta(hours=1)
"""How far what stands behind a head is put off; it becomes due with its turn, long before that."""
_OF_EACH = 4
"""Messages read for each of several streams on average, and"""
_OF_ONE = 32
"""of one that has more: what is kept in memory of a stream at most."""
_COMPARED = 16
"""Values of one `$in`: the embedded database compares what its index finds with each of them."""

INDEXES: Mapping[str, Sequence[pymongo.IndexModel]] = {
    MESSAGES: (
        pymongo.IndexModel([("due", 1), ("stream", 1), ("shard", 1), ("origin", 1)], name="look"),
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


@dataclass(frozen=True)
class Due:
    """A stream to look at.

    Attributes:
        stream: its name.
        origin: of the target of its message that is due (`origin_of`).
    """

    stream: str
    origin: str

    @property
    def shard(self) -> int:
        """The shard whose holder serves it."""
        return shard_of(self.stream)


@dataclass(frozen=True)
class Waiting:
    """What waits in a stream, in order and as far as it was read.

    Attributes:
        messages: one or more; the first is the head.
        more: something may stand behind the last one. There is another one then.
    """

    messages: Sequence[Pending]
    more: bool = False

    def behind(self) -> Document:
        """A query for what stands behind the head: up to the last one read if that is the last one."""
        head, last = self.messages[0].message, self.messages[-1].message
        places = {"$gt": head.sequence} | ({} if self.more else {"$lte": last.sequence})
        return {"stream": head.stream, "died": None, "sequence": places}

    def with_following(self) -> Iterator[tuple[Pending, Pending | None]]:
        """Each message with the one behind it, without a last one of which it is not known."""
        for place, following in enumerate(self.messages[1:]):
            yield self.messages[place], following
        if not self.more:
            yield self.messages[-1], None


@dataclass(frozen=True)
class Taken:
    """A message that its target has taken.

    Attributes:
        message: the message.
        following: the one behind it, None if there is none.
    """

    message: Message
    following: Message | None = None


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

    async def due_streams(
        self, limit: int, except_origins: Collection[str] = (), except_shards: Collection[int] = ()
    ) -> list[Due]:
        """Streams to look at now, longest waiting first and each once.

        Args:
            limit: bounds the messages that are read.
            except_origins, except_shards: streams of these are left out.
        """
        query: Document = {"due": {"$lte": self._clock.now()}}
        if except_shards:
            query["shard"] = {"$nin": list(except_shards)}
        if except_origins:
            query["origin"] = {"$nin": list(except_origins)}
        found = self._messages.find(query, {"_id": 0, "stream": 1, "origin": 1})
        streams: dict[str, Due] = {}
        for document in await found.sort("due", 1).limit(limit).to_list(None):
            streams.setdefault(document["stream"], Due(document["stream"], document["origin"]))
        return list(streams.values())

    async def claim(self, shard: int, owner: str, until: datetime) -> bool:
        """Take the shard's lease; False if it is taken.

        Transactions that its former holder has left open end: they would keep others from its messages.
        """
        now = self._clock.now()
        lease = await self._leases.find_one({"_id": shard})
        if lease is not None and lease["until"] > now:
            return False
        if lease is not None and lease["process"] != self._database.process:
            await self._database.end_transactions_of(lease["process"])
        claimed = {"owner": owner, "process": self._database.process, "until": until}
        try:
            await self._leases.update_one(
                {"_id": shard, "until": {"$lte": now}}, {"$set": claimed}, upsert=True
            )
        except DuplicateKeyError:  # somebody else was quicker
            return False
        return True

    async def extend(self, shards: Collection[int], owner: str, until: datetime) -> set[int]:
        """Hold these leases until then; those that the owner still has: others ran out and are taken."""
        ours = {"_id": {"$in": list(shards)}, "owner": owner}
        await self._leases.update_many(ours, {"$set": {"until": until}})
        return {lease["_id"] for lease in await self._leases.find(ours).to_list(None)}

    async def release(self, shards: Collection[int], owner: str) -> None:
        """Give the leases back; nothing happens to those that are not the owner's any more."""
        await self._leases.delete_many({"_id": {"$in": list(shards)}, "owner": owner})

    async def held_by_others(self, owner: str) -> set[int]:
        """The shards that other processes serve now."""
        held = await self._leases.find({"until": {"$gt": self._clock.now()}}).to_list(None)
        return {lease["_id"] for lease in held if lease["owner"] != owner}

    async def waiting(self, streams: Collection[str]) -> dict[str, Waiting]:
        """What waits in the streams; those in which nothing does are left out."""
        limit = _OF_EACH * len(streams)
        read = await self._read({"stream": {"$in": list(streams)}, "died": None}, limit)
        by_stream = groupby(read, lambda pending: pending.message.stream)
        found = {stream: Waiting(list(messages)) for stream, messages in by_stream}
        if len(read) == limit:
            cut_off = read[-1].message.stream
            for stream in (stream for stream in streams if stream >= cut_off):
                found |= await self._beginning(stream)
        return found

    async def _beginning(self, stream: str) -> dict[str, Waiting]:
        read = await self._read({"stream": stream, "died": None}, _OF_ONE)
        return {stream: Waiting(read, more=len(read) == _OF_ONE)} if read else {}

    async def head(self, stream: str) -> Pending | None:
        """The first message that is left, None if there is none."""
        found = await self._read({"stream": stream, "died": None}, 1)
        return found[0] if found else None

    async def heads(self, limit: int = 1000) -> list[Pending]:
        """The heads of the streams that have something left, by the name of the stream."""
        streams = sorted(await self._messages.distinct("stream", {"died": None}))
        found = [await self.head(stream) for stream in streams[:limit]]
        return [head for head in found if head is not None]

    async def park(self, streams: Sequence[Waiting]) -> None:
        """Put off what stands behind the heads, so that a long stream hides no other from `due_streams`.

        What was enqueued since the stream was read to its end stays due: who read it does not know of it.
        """
        now = self._clock.now()

        async def write(session: Session) -> None:
            for each in streams:
                behind = {**each.behind(), "due": {"$lte": now}}
                await self._messages.update_many(behind, {"$set": {"due": now + PARKED}}, session=session)

        await self._database.run_in_transaction(write)

    async def delivered(self, taken: Sequence[Taken]) -> None:
        """Forget messages, and have it be the turn of those behind them."""
        due_now = {"$set": {"due": self._clock.now()}}
        behind = _queries([each.following.id for each in taken if each.following])
        gone = _queries([each.message.id for each in taken])
        changes: list[pymongo.UpdateMany | pymongo.DeleteMany] = []
        changes += [pymongo.UpdateMany(query, due_now) for query in behind]
        changes += [pymongo.DeleteMany(query) for query in gone]

        async def write(session: Session) -> None:
            await self._messages.bulk_write(changes, session=session)

        await self._database.run_in_transaction(write)

    async def postponed(self, message: Message, due: datetime, attempts: int, status: int | None) -> None:
        """Note a failed attempt and when to try again; the stream waits until then."""
        await self._set(message, {"due": due, "attempts": attempts, "status": status})

    async def dead(
        self, message: Message, attempts: int, status: int | None, following: Message | None = None
    ) -> None:
        """Give a message up: it becomes a dead letter, and the stream goes on with the one behind it."""
        now = self._clock.now()
        if following is not None:  # becomes due before the head goes: a crash in between forgets neither
            await self._set(following, {"due": now})
        await self._set(message, {"due": None, "died": now, "attempts": attempts, "status": status})

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

    async def make_due(self, target: str) -> int:
        """End the pauses of what has the same origin as `target`; how many messages waited."""
        now = self._clock.now()
        return await self._change_all({"due": {"$gt": now}, "origin": origin_of(target)}, {"due": now})

    async def drop(self, stream: str, session: Session) -> None:
        """Forget a stream with its dead letters: nobody wants its messages any more.

        A few that have been read to be delivered may still be sent.
        """
        await self._messages.delete_many({"stream": stream}, session=session)

    async def _read(self, query: Document, limit: int) -> list[Pending]:
        """Messages in the order of their streams and sequences."""
        found = self._messages.find(query).sort([("stream", 1), ("sequence", 1)]).limit(limit)
        return [_pending(document) for document in await found.to_list(None)]

    async def _change_all(self, query: Document, changes: Document) -> int:
        async def write(session: Session) -> int:
            return (await self._messages.update_many(query, {"$set": changes}, session=session)).matched_count

        return await self._database.run_in_transaction(write)

    async def _set(self, message: Message, changes: Document) -> None:
        await self._messages.update_one({"_id": message.id}, {"$set": changes})


def _queries(ids: Sequence[str]) -> list[Document]:
    """These messages, `_COMPARED` by each query."""
    parts = (ids[place : place + _COMPARED] for place in range(0, len(ids), _COMPARED))
    return [{"_id": {"$in": part}} for part in parts]


def shard_of(stream: str) -> int:
    """The same in every process: 0 to `SHARDS` - 1."""
    return zlib.crc32(stream.encode()) % SHARDS


def _document(message: Message, now: datetime) -> Document:
    return {
        "stream": message.stream,
        "sequence": message.sequence,
        "shard": shard_of(message.stream),
        "target": message.target,
        "origin": origin_of(message.target),
        "body": json.dumps(message.body),
        **_untried(now),
    }


def origin_of(target: str) -> str:
    """Scheme, host and port as they are written, and the channel if it is one; `target` itself if it is no URL.

    Behind one address of ours there are as many consumers as channels, and none of them waits for another.
    """
    found = re.match(rf"([^/]*//[^/?#]*)({ADDRESSES}[^/?#]+)?", target)
    return found[1].lower() + (found[2] or "") if found else target


def _untried(now: datetime) -> Document:
    return {"created": now, "due": now, "attempts": 0, "status": None, "died": None}


def _pending(document: Document) -> Pending:
    message = Message(
        document["stream"], document["sequence"], document["target"], json.loads(document["body"])
    )
    kept = {name: document[name] for name in ("created", "due", "attempts", "status", "died")}
    return Pending(message, **kept)

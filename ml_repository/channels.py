"""Channels to those that nobody can call (TS 29.122 5.2.5.4), one document for each.

_id          channel id
_key         the unguessable part of its address
_owner       subject that opened it and may connect to it
_address     apiRoot of the process that holds its WebSocket, for the other processes; None: nobody is connected
_connection  tells that WebSocket from those before and after it
_expires     from when it is gone; every query looks at it
"""

from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document, Session

COLLECTION = "channels"
ADDRESSES = "/aimle-at/v1/"
"""Path of a channel's address, before its key."""

INDEXES = {
    COLLECTION: [IndexModel([("_key", ASCENDING)], unique=True), IndexModel([("_expires", ASCENDING)])],
}


@dataclass(frozen=True)
class StoredChannel:
    """A channel as it was read."""

    id: str
    key: str
    expires: datetime


class Channels:
    """The channels of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._documents = database[COLLECTION]

    async def add(self, channel: StoredChannel, owner: str) -> None:
        """Store a new one, to which nobody is connected."""
        await self._documents.insert_one(
            {
                "_id": channel.id,
                "_key": channel.key,
                "_owner": owner,
                "_address": None,
                "_connection": None,
                "_expires": channel.expires,
            }
        )

    async def get(self, channel_id: str, owner: str, now: datetime) -> StoredChannel | None:
        """The owner's live channel."""
        found = await self._documents.find_one(owned(channel_id, owner, now))
        return StoredChannel(found["_id"], found["_key"], found["_expires"]) if found else None

    async def remove(self, channel_id: str, owner: str, now: datetime) -> bool:
        """Delete the owner's live channel; False: there is none."""
        return (await self._documents.delete_one(owned(channel_id, owner, now))).deleted_count == 1

    async def connect(self, channel_id: str, address: str, connection: str, expires: datetime) -> bool:
        """A WebSocket is open, in place of any other; False: the channel is gone."""
        held = {"_address": address, "_connection": connection, "_expires": expires}
        return (await self._documents.update_one({"_id": channel_id}, {"$set": held})).matched_count == 1

    async def disconnect(self, channel_id: str, connection: str, expires: datetime) -> None:
        """That WebSocket is closed; nothing happens where another one is open since."""
        ours = {"_id": channel_id, "_connection": connection}
        free = {"_address": None, "_connection": None, "_expires": expires}
        await self._documents.update_one(ours, {"$set": free})

    async def holder(self, key: str, now: datetime) -> str | None:
        """apiRoot of the process that holds the channel's WebSocket, None if nobody does.

        Raises:
            KeyError: there is no such live channel.
        """
        found = await self._documents.find_one(keyed(key), {"_address": True, "_expires": True})
        if found is None or found["_expires"] <= now:
            raise KeyError(key)
        address: str | None = found["_address"]
        return address

    async def remove_expired(self, now: datetime) -> int:
        """Clean up; the number of channels removed."""

        async def remove(session: Session) -> int:
            return (await self._documents.delete_many(expired(now), session=session)).deleted_count

        return await self._database.run_in_transaction(remove)


def owned(channel_id: str, owner: str, now: datetime) -> Document:
    """Filter: the owner's live channel."""
    return {"_id": channel_id, "_owner": owner, "_expires": {"$gt": now}}


def keyed(key: str) -> Document:
    """Filter: the channel with this key, live or not."""
    return {"_key": key}


def expired(now: datetime) -> Document:
    """Filter: channels that only cleaning up still finds."""
    return {"_expires": {"$lte": now}}

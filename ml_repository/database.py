"""The one connection to MongoDB; the stores get a `Database` and open nothing themselves.

Whatever names the driver's own classes for connections, sessions and transactions is here, so that a change
of driver (Motor ends in 2027, PyMongo's asyncio API follows it) is a change of this module.

Outside a transaction, no `update_many` and `delete_many` on a collection that transactions write: the embedded
database keeps the collection locked while such a write waits for a transaction, which then waits for the lock.
Inside one, the write fails at once and is repeated; writes of one document let go while they wait.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import ASCENDING, IndexModel
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from sbi.errors import AimleError, Unavailable
from sbi.undisturbed import finished

T = TypeVar("T")

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Collection = AsyncIOMotorCollection[Document]
Session = AsyncIOMotorClientSession

PING_SECONDS = 2.0

_SESSIONS = "sessions"
_DAY = 24 * 3600

INDEXES: Mapping[str, Sequence[IndexModel]] = {
    _SESSIONS: [
        IndexModel([("process", ASCENDING)]),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=2 * _DAY),
    ]
}

_PAUSES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
_TRANSIENT = "TransientTransactionError"
_UNREACHABLE = (ConnectionFailure, NetworkTimeout, WaitQueueTimeoutError, ExecutionTimeout, WTimeoutError)


@dataclass(frozen=True)
class Database:
    """An open connection and the database that this server keeps its documents in.

    Attributes:
        client: the driver's client, shared by everything in this process.
        db: the database; `db["models"]` is a collection.
        process: names this process among those that share the database.
    """

    client: Client
    db: "AsyncIOMotorDatabase[Document]"
    process: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _noted: dict[bytes, float] = field(default_factory=dict)

    def __getitem__(self, collection: str) -> Collection:
        """A collection by its name."""
        return self.db[collection]

    @property
    def is_there(self) -> bool:
        """Whether the driver, which looks every second, has a server to write to; nothing is sent for this."""
        topology: Any = self.client.topology_description
        return bool(topology.has_writable_server())

    async def ping(self) -> None:
        """Return when the database has answered.

        Raises:
            Unavailable: it did not within `PING_SECONDS`.
        """
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.db.command("ping")
        except (PyMongoError, TimeoutError) as error:
            raise _unreachable() from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A session whose writes all commit when the block ends and all vanish when it raises.

        Nothing is repeated: a conflict with another writer surfaces as the driver's error, for which
        `translate` has a name. Where the block may run twice, `run_in_transaction` does better.
        """
        async with await self.client.start_session() as session:
            await self._note(session)
            async with session.start_transaction():
                yield session

    async def _note(self, session: Session) -> None:
        """Make the session known to `end_transactions_of`. The driver uses a few again and again."""
        session_id: Any = session.session_id  # a property, whatever Motor's annotation says
        name = session_id["id"]
        if self._noted.get(name, 0) < time.monotonic():
            entry = {"process": self.process, "at": datetime.now(UTC)}
            await self.db[_SESSIONS].replace_one({"_id": name}, entry, upsert=True)
            self._noted[name] = time.monotonic() + _DAY

    async def end_transactions_of(self, process: str) -> None:
        """Abort what another process has left open.

        One that is killed inside a transaction leaves it to the database, which keeps everybody else from those
        documents for a minute (`transactionLifetimeLimitSeconds`). Transactions of a process that lives after all
        fail, and `run_in_transaction` repeats them.
        """
        sessions = await self.db[_SESSIONS].find({"process": process}).to_list(None)
        if sessions:
            await self.client.admin.command("killSessions", [{"id": each["_id"]} for each in sessions])

    async def run_in_transaction(self, callback: Callable[[Session], Awaitable[T]]) -> T:
        """What `callback(session)` returns, once its writes are committed.

        The callback runs again after a conflict with another writer, so it must have no effect but its writes
        through `session`. What it raises aborts the transaction and passes through. A caller that is cancelled
        waits for the end, whatever that is: a transaction that is aborted while one of its operations is under
        way may stay open and keep other writers from its documents for a minute.
        """
        return await finished(asyncio.create_task(self._repeat(callback)))

    async def _repeat(self, callback: Callable[[Session], Awaitable[T]]) -> T:
        for pause in _PAUSES:
            try:
                async with self.transaction() as session:
                    return await callback(session)
            except OperationFailure as error:
                if not error.has_error_label(_TRANSIENT):
                    raise
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - only spreads the writers
        async with self.transaction() as session:
            return await callback(session)

    async def ensure_indexes(self, indexes: Mapping[str, Sequence[IndexModel]]) -> None:
        """Create the indexes of each named collection that are not there yet."""
        for name, models in indexes.items():
            if models:
                await self.db[name].create_indexes(list(models))

    async def close(self) -> None:
        """Close every connection; the object is of no use afterwards."""
        self.client.close()


def open_database(url: str, name: str) -> Database:
    """The database `name` behind a `mongodb://` or `mongodb+srv://` URL, whether or not it answers now.

    Moments are read as aware datetimes in UTC, to the millisecond. An option in the URL does not override the
    timeouts set here. The driver asks its servers every second how they are: a server that is gone is noticed
    at once, one that falls silent within four seconds, which breaks off what waits for it, and one that comes
    back within one. So an operation may take its time where the server only has much to do.

    Raises:
        pymongo.errors.InvalidURI: `url` is not a connection string.
    """
    client: Client = AsyncIOMotorClient(
        url,
        appname="aimle",
        tz_aware=True,
        retryWrites=True,
        serverSelectionTimeoutMS=1_500,
        heartbeatFrequencyMS=1_000,
        connectTimeoutMS=2_500,
        socketTimeoutMS=30_000,
        waitQueueTimeoutMS=5_000,
    )
    return Database(client, client[name])


async def connect(url: str, name: str) -> Database:
    """As `open_database`, once the database has answered.

    Raises:
        Unavailable: nothing answered within three seconds.
        pymongo.errors.InvalidURI: `url` is not a connection string.
    """
    database = open_database(url, name)
    try:
        await database.client.admin.command("ping")
    except PyMongoError as error:
        await database.close()
        raise translate(error) or error from error
    return database


def translate(error: BaseException) -> AimleError | None:
    """The caller's view of a driver's error: `Unavailable` when trying again may help, None for any other."""
    if not isinstance(error, PyMongoError):
        return None
    if isinstance(error, _UNREACHABLE) or error.timeout:
        return _unreachable()
    if error.has_error_label(_TRANSIENT) or error.has_error_label("RetryableWriteError"):
        return Unavailable("the database is busy", retry_after=1)
    return None


@contextmanager
def tried_again(log: logging.Logger, meanwhile: str) -> Iterator[None]:
    """For work in the background that is tried again anyway: what the database keeps from happening is logged.

    `meanwhile`: what that means, `loads are not written`.
    """
    try:
        yield
    except PyMongoError as error:
        if translate(error) is None:
            log.exception("the database refused: %s", meanwhile)
        else:
            log.warning("the database does not answer; %s", meanwhile)


def _unreachable() -> Unavailable:
    return Unavailable("the database does not answer", retry_after=5)

"""Whether the database is there: requests that need it are refused at once while it is not.

Without this each request would hold a thread of the driver until its own timeout, and the next ones would wait
for a thread: callers would wait the longer the more of them there are. Streamed transfers, WebSockets and what
participants send in a round are let through; they need the database for a moment or not at all.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pymongo import IndexModel
from pymongo.errors import PyMongoError

from aimle_server.apis import SERVED_APIS
from aimle_server.apis.oauth import API as OAUTH_API
from ml_repository.database import Database, translate
from sbi.errors import Unavailable

_log = logging.getLogger("aimle.database")

GRACE_SECONDS = 0.5
"""How long the database may be away before requests hear of it: another server may be taking its place."""
_LOOK_SECONDS = 0.2
_REFUSED_SECONDS = 5.0
"""Pause after the database has refused us, which trying again at once does not change."""
_NEEDING = frozenset(
    operation.operation_id
    for api in (OAUTH_API, *SERVED_APIS)
    for operation in api.operations
    if not operation.streams
    and not operation.capability
    and HTTPStatus.SWITCHING_PROTOCOLS not in operation.answers
)


class Presence:
    """Follows the database from the server's start on, and makes the indexes when it first answers.

    Attributes:
        lost: no request that needs the database can be answered now.
    """

    def __init__(self, database: Database, indexes: Mapping[str, Sequence[IndexModel]]) -> None:
        self.lost = True
        self._database = database
        self._indexes = indexes
        self._opened = False
        self._seen = 0.0
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database if it is there, and follow it.

        Raises:
            PyMongoError: it is there and does not let us in.
        """
        if not await self._open():
            _log.warning("the database does not answer: requests are refused with 503 until it does")
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Follow it no longer."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def check(self) -> None:
        """Return when the database has answered.

        Raises:
            Unavailable: it did not, or has not been opened yet.
        """
        if self.lost:
            raise _away()
        await self._database.ping()

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The handler's answer, unless the database is away or goes away meanwhile.

        Raises:
            Unavailable: that is so; the handler was not begun, or is cancelled and not waited for, since its
                end may need the database as well.
        """
        if self.lost:
            raise _away()
        task = asyncio.ensure_future(handler(request))
        over = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: _finish(task, over))
        self._waiting.add(over)
        try:
            await over
        finally:
            self._waiting.discard(over)
            task.cancel()
        return task.result()

    async def _open(self) -> bool:
        """Make the indexes that are missing; False if the database does not answer."""
        try:
            await self._database.ensure_indexes(self._indexes)
        except PyMongoError as error:
            if translate(error) is None:
                raise
            return False
        self._opened = True
        self._see()
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self._opened:
                    self._see()
                else:
                    await self._open()
            except PyMongoError:
                _log.exception("the database cannot be used")
                await asyncio.sleep(_REFUSED_SECONDS)

    def _see(self) -> None:
        """Look, and tell those who wait when it has been away for too long."""
        now = asyncio.get_running_loop().time()
        if self._database.is_there:
            self._seen = now
        lost = now - self._seen > GRACE_SECONDS
        if lost:
            for over in self._waiting:
                if not over.done():
                    over.set_exception(_away())
        if lost and not self.lost:
            _log.warning("the database does not answer any more: requests are refused with 503")
        elif self.lost and not lost:
            _log.info("the database answers")
        self.lost = lost


def needs_database(presence: Presence) -> Middleware:
    """The middleware that refuses, or breaks off, operations that need the database while it is away."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name not in _NEEDING:
            return await handler(request)
        return await presence.answer(request, handler)

    return middleware


def _finish(task: "asyncio.Future[web.StreamResponse]", over: "asyncio.Future[None]") -> None:
    """Tell who waits for the task; where nobody does any more, its end is of no interest."""
    if not over.done():
        over.set_result(None)
    elif not task.cancelled():
        task.exception()


def _away() -> Unavailable:
    return Unavailable("the database does not answer", retry_after=5)

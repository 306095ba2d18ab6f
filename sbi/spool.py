"""Uploads of model files, collected on disk: whole, or on from where the last attempt stopped.

A `PUT` without `Content-Range` begins anew. With `Content-Range: bytes first-last/total` (RFC 9110 14.5) it
goes on at `first`, which must be the number of bytes that are here (`Upload-Offset`). `Repr-Digest` (RFC 9530)
is checked when the last byte is here. An upload that breaks off keeps what came, also across a restart.

One request at a time writes an upload. A newer one takes the older one's place and closes its connection: a
client whose network changed comes back long before its old connection is known to be dead.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web

from sbi.announced import Announced, announced_upload
from sbi.digests import REPR_DIGEST, SHA256, Hashing
from sbi.errors import Conflict, InvalidRequest, PayloadTooLarge, RangeNotSatisfiable
from sbi.hashed_file import BLOCK_BYTES, Block, HashedFile, appending
from sbi.undisturbed import undisturbed

_BROKEN = (ConnectionError, aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError)


@dataclass(frozen=True)
class Received:
    """A complete upload.

    Attributes:
        path: the file; no later upload writes to it or removes it.
        size: bytes.
        hashing: knows the file's digests.
    """

    path: Path
    size: int
    hashing: Hashing


@dataclass(frozen=True)
class Pace:
    """The least that a sender must do; a slower one gets 408 and may go on later.

    Attributes:
        bytes: at least so many must arrive
        seconds: in each period of so many seconds.
    """

    bytes: int = 20_000
    seconds: float = 20.0


PACE = Pace()


@dataclass
class _Turn:
    """Who writes an upload, and how many wait for that."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: asyncio.Transport | None = None
    users: int = 0


class Spool:
    """A directory of uploads; each has a key, which may be any text.

    Args:
        directory: made when first needed; nothing else may be in it.
        max_bytes: the most that one upload may have.
        pace: how slowly one may arrive.
        algorithms: whose digests are found out, beside the one that the sender announces.
    """

    def __init__(
        self, directory: Path, max_bytes: int, pace: Pace = PACE, algorithms: Iterable[str] = (SHA256,)
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._pace = pace
        self._algorithms = frozenset(algorithms)
        self._turns: dict[str, _Turn] = {}
        self._complete: dict[str, Path] = {}

    async def receive(
        self, key: str, request: web.Request, *, limit: int | None = None, coding: str | None = None
    ) -> Received | None:
        """Take in the request's body; None while later bytes of the upload are still missing.

        `limit` is for an upload that may have fewer bytes than others, `coding` the content coding that it may have;
        it is kept as it comes. The complete file is the caller's to `take`, with no `await` in between.

        Raises:
            InvalidRequest: a header is wrong, the body broke off, is not as long as announced or, which drops
                it, has another digest.
            PayloadTooLarge: more is announced, or sent, than is allowed; what came is dropped.
            RangeNotSatisfiable: the body does not begin at the offset that the error carries.
            UnsupportedMediaType: the body has another content coding.
            Conflict: a newer request has taken over.
            OSError: the disk is full; what came is dropped, for it would be in the way of others.
            aiohttp.web.HTTPRequestTimeout: the body comes too slowly.
        """
        most = self._max_bytes if limit is None else min(limit, self._max_bytes)
        announced = announced_upload(request, most, coding)
        if not self._directory.exists():
            await asyncio.to_thread(self._directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        async with self._turn(key, request):
            offset = self.offset(key)
            if announced.start not in (None, offset):
                raise RangeNotSatisfiable(f"this upload goes on at byte {offset}", offset)
            try:
                algorithms = self._algorithms | ({announced.digest.algorithm} if announced.digest else set())
                async with appending(self._part(key), announced.start or 0, algorithms) as file:
                    await self._fill(file, request, announced, most)
            except BlockingIOError as error:
                raise Conflict("another request goes on with this upload") from error
            except (OSError, PayloadTooLarge):
                await undisturbed(self._part(key).unlink, missing_ok=True)
                raise
            return await self._finish(key, file, announced)

    def offset(self, key: str) -> int:
        """How many bytes of an unfinished upload are here; 0 if there is none."""
        try:
            return self._part(key).stat().st_size
        except FileNotFoundError:
            return 0

    def take(self, key: str) -> Path:
        """The file that `receive` completed, which is the caller's from now on, to move or to remove."""
        return self._complete.pop(key)

    async def discard(self, key: str) -> None:
        """Drop an unfinished upload; where a request is going on with it, its connection is closed."""
        turn = self._turns.get(key)
        if turn and turn.newest is not None:
            turn.newest.abort()
        if self._part(key).exists():
            await undisturbed(self._part(key).unlink, missing_ok=True)

    async def sweep(self, max_age: float) -> int:
        """Remove what nobody has written to for `max_age` seconds; how many files those were."""
        return await asyncio.to_thread(self._sweep, time.time() - max_age)

    def _sweep(self, before: float) -> int:
        removed = 0
        for path in self._directory.glob("*"):
            with suppress(FileNotFoundError):  # its upload ended a moment ago
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed

    def _part(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}.part"

    @asynccontextmanager
    async def _turn(self, key: str, request: web.Request) -> AsyncIterator[None]:
        """While this request alone writes the upload."""
        turn = self._turns.setdefault(key, _Turn())
        mine, older, turn.newest = request.transport, turn.newest, request.transport
        turn.users += 1
        try:
            if older is not None and older is not mine:
                older.abort()
            async with turn.lock:
                if turn.newest is not mine:
                    raise Conflict("a newer request goes on with this upload")
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def _fill(self, file: HashedFile, request: web.Request, announced: Announced, most: int) -> None:
        begin = file.size
        end = most if announced.length is None else begin + announced.length
        block, more = Block(), True
        try:
            while more:
                more = await _gather(request.content, block, self._pace)
                if file.size + block.size > end:
                    block = Block()
                    raise announced.too_long(most)
                full, block = block, Block()
                await file.append(full)
        finally:
            await file.append(block)  # what came before it broke off
            await file.written()
        if announced.length is not None and file.size < end:
            raise InvalidRequest.of(hdrs.CONTENT_RANGE, f"the body has only {file.size - begin} bytes")

    async def _finish(self, key: str, file: HashedFile, announced: Announced) -> Received | None:
        if announced.total is not None and file.size < announced.total:
            return None
        if announced.digest and announced.digest != file.hashing.digest(announced.digest.algorithm):
            await undisturbed(self._part(key).unlink)  # freeing a large file takes its time
            raise InvalidRequest.of(REPR_DIGEST, "the bytes that came have another digest and were dropped")
        path = self._directory / f"{secrets.token_hex(16)}.complete"
        try:
            self._part(key).rename(path)
        except FileNotFoundError as error:
            raise Conflict("this upload has been dropped meanwhile") from error
        self._complete[key] = path
        return Received(path, file.size, file.hashing)


async def _gather(content: aiohttp.StreamReader, block: Block, pace: Pace) -> bool:
    """Add to `block` what comes, until it is worth writing or the pace's time is over; False: that was all."""
    try:
        async with asyncio.timeout(pace.seconds):
            while block.size < BLOCK_BYTES:
                if content.at_eof():
                    return False
                block.add((await content.readchunk())[0])  # as it came; other ways to read join what has come
    except TimeoutError as error:
        if block.size < pace.bytes:
            raise web.HTTPRequestTimeout from error
    except _BROKEN as error:
        raise InvalidRequest("the body broke off") from error
    return True

"""One file on its way out: where its bytes come from, and the requests that an upload is made of."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from os import pread
from typing import Protocol

import aiohttp
from aiohttp import hdrs

from sbi.digests import REPR_DIGEST, Buffer, Digest
from sbi.hashed_file import BLOCK_BYTES
from sbi.patience import Interrupted, TransferError
from sbi.undisturbed import undisturbed

Progress = Callable[[int, int | None], None]
"""(bytes done, bytes in all or None) -> None, called about once per MiB."""

UPLOAD_OFFSET = "Upload-Offset"
_MAX_ANSWER = 64 * 1024
_SLOWEST_ANSWER = 10e6
"""Bytes per second at which the other side looks through an upload before it answers, at the least."""
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=None)


@dataclass(frozen=True)
class Answer:
    """What the other side said to a complete upload; `body` is cut after 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Source(Protocol):
    """What is sent.

    Attributes:
        size: bytes.
        digest: of all of them.
    """

    size: int
    digest: Digest

    def blocks(self, offset: int) -> AsyncIterator[Buffer]:
        """Everything from `offset` on, in pieces."""


class FileSource:
    """An open file."""

    def __init__(self, file: FileIO, digest: Digest) -> None:
        self.size = file.seek(0, 2)
        self.digest = digest
        self._file = file

    async def blocks(self, offset: int) -> AsyncIterator[Buffer]:
        """As they are read."""
        while data := await undisturbed(pread, self._file.fileno(), BLOCK_BYTES, offset):
            offset += len(data)
            yield data


class BufferSource:
    """Buffers of bytes, one after the other, which nobody changes meanwhile."""

    def __init__(self, buffers: Sequence[Buffer], digest: Digest) -> None:
        self.size = sum(map(len, buffers))
        self.digest = digest
        self._buffers = buffers

    async def blocks(self, offset: int) -> AsyncIterator[Buffer]:
        """Views of the buffers."""
        for buffer in self._buffers:
            for at in range(min(offset, len(buffer)), len(buffer), BLOCK_BYTES):
                yield memoryview(buffer)[at : at + BLOCK_BYTES]
            offset = max(0, offset - len(buffer))


class Sending:
    """What is sent, and the address that it goes to."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        source: Source,
        headers: Mapping[str, str],
        progress: Progress | None,
    ) -> None:
        self._session = session
        self._url = url
        self._source = source
        self._size = source.size
        self._headers = headers
        self._body_headers = {
            hdrs.CONTENT_TYPE: "application/octet-stream",
            **headers,
            REPR_DIGEST: str(source.digest),
        }
        if source.size > BLOCK_BYTES:
            # A refusal may come before the end of the body: no other request must follow on that connection.
            self._body_headers[hdrs.CONNECTION] = "close"
        self._progress = progress

    async def put(self, offset: int, stall: float) -> Answer:
        """Send everything from `offset` on."""
        headers = {**self._body_headers, hdrs.CONTENT_LENGTH: str(self._size - offset)}
        if offset:
            headers[hdrs.CONTENT_RANGE] = f"bytes {offset}-{self._size - 1}/{self._size}"
        try:
            async with asyncio.timeout(stall) as limit:
                body = self._blocks(offset, limit, stall) if self._size else b""
                async with self._session.put(
                    self._url, data=body, headers=headers, timeout=_NO_LIMIT, allow_redirects=False
                ) as response:
                    return Answer(response.status, response.headers, await beginning(response.content))
        except aiohttp.InvalidURL as error:
            raise TransferError("the address is not one") from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Interrupted("the connection broke or could not be made") from error

    async def arrived(self, stall: float) -> int:
        """From where on the other side needs the file, as far as it says."""
        timeout = aiohttp.ClientTimeout(total=stall)
        try:
            async with self._session.head(self._url, headers=self._headers, timeout=timeout) as response:
                offset = response.headers.get(UPLOAD_OFFSET, "")
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return 0
        known = response.ok and offset.isdecimal() and int(offset[:18]) < self._size
        return int(offset) if known else 0

    async def _blocks(self, offset: int, limit: asyncio.Timeout, stall: float) -> AsyncIterator[Buffer]:
        loop = asyncio.get_running_loop()
        async for data in self._source.blocks(offset):
            offset += len(data)
            limit.reschedule(loop.time() + stall)
            yield data
            tell(self._progress, offset, self._size)
        limit.reschedule(loop.time() + stall + self._size / _SLOWEST_ANSWER)


async def beginning(answer: aiohttp.StreamReader) -> bytes:
    """What the other side says, and no more of it than 64 KiB."""
    text = bytearray()
    while len(text) < _MAX_ANSWER and (data := await answer.read(_MAX_ANSWER - len(text))):
        text += data
    return bytes(text)


def tell(progress: Progress | None, done: int, total: int | None) -> None:
    """Report progress to whoever wants to know."""
    if progress is not None:
        progress(done, total)

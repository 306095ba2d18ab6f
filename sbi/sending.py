"""One file on its way out: the requests that `transfer.upload` is made of."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from os import pread

import aiohttp
from aiohttp import hdrs

from sbi.digests import REPR_DIGEST, repr_digest
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


class Sending:
    """A file and the address that it goes to; `sha256` is its digest, in hexadecimal."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        file: FileIO,
        sha256: str,
        headers: Mapping[str, str],
        progress: Progress | None,
    ) -> None:
        self._session = session
        self._url = url
        self._file = file
        self._size = file.seek(0, 2)
        self._headers = headers
        self._body_headers = {
            hdrs.CONTENT_TYPE: "application/octet-stream",
            **headers,
            REPR_DIGEST: repr_digest(sha256),
            # A refusal may come before the end of the body: no other request must follow on that connection.
            hdrs.CONNECTION: "close",
        }
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

    async def _blocks(self, offset: int, limit: asyncio.Timeout, stall: float) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        while data := await undisturbed(pread, self._file.fileno(), BLOCK_BYTES, offset):
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

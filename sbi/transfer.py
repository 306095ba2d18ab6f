"""Model files from and to other parties: streamed, taken up again after an interruption, checked by digest.

`download` writes to `<name>.part` beside the target and goes on there with `Range` and `If-Range`, also after
a restart of this process. `upload` asks with `HEAD` how much has arrived (`Upload-Offset`) and sends the rest
with `Content-Range`. `download_buffer` and `upload_buffers` do the same without a file.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import hdrs

from sbi.clock import Clock
from sbi.digests import Buffer, Hashing, digest_of, digest_of_buffers
from sbi.hashed_file import BLOCK_BYTES, Block, opened
from sbi.partial import Partial, PartialBuffer, PartialFile, Sink, Version
from sbi.patience import (
    COME_AGAIN,
    PATIENCE,
    CorruptTransfer,
    Interrupted,
    Patience,
    Retries,
    TransferError,
    TransferRefused,
    TransferTooLarge,
)
from sbi.sending import Answer, BufferSource, FileSource, Progress, Sending, Source, beginning, tell
from sbi.undisturbed import undisturbed

__all__ = [
    "Answer",
    "CorruptTransfer",
    "Downloaded",
    "DownloadedBuffer",
    "Patience",
    "Progress",
    "TransferError",
    "TransferRefused",
    "TransferTooLarge",
    "download",
    "download_buffer",
    "upload",
    "upload_buffers",
]


_JUDGED = COME_AGAIN | {200, 206, 416}
"""Answers to a download that bring something, or after which another attempt makes sense."""


@dataclass(frozen=True)
class Downloaded:
    """A file that has arrived.

    Attributes:
        path: where it is.
        size: bytes.
        headers: of the answer that brought its last byte.
    """

    path: Path
    size: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class DownloadedBuffer:
    """A file that has arrived in memory.

    Attributes:
        content: its bytes.
        headers: of the answer that brought its last byte.
    """

    content: bytearray
    headers: Mapping[str, str]


async def download(
    session: aiohttp.ClientSession,
    url: str,
    path: Path,
    *,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    max_bytes: int | None = None,
    patience: Patience = PATIENCE,
    clock: Clock | None = None,
) -> Downloaded:
    """Get a file; `path` appears when it is whole and has the digest that the other side announced.

    Raises:
        CorruptTransfer: another digest; what came is removed.
        TransferRefused: an answer that will not change.
        TransferTooLarge: more than `max_bytes`.
        TransferError: interrupted too often; what came stays for the next call.
    """
    partial = await undisturbed(PartialFile.of, path)
    last = await _complete(session, url, partial, headers, progress, max_bytes, patience, clock)
    return Downloaded(path, partial.size, last)


async def download_buffer(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    max_bytes: int | None = None,
    patience: Patience = PATIENCE,
    clock: Clock | None = None,
) -> DownloadedBuffer:
    """As `download`, into memory; what came is lost where it raises."""
    partial = PartialBuffer()
    last = await _complete(session, url, partial, headers, progress, max_bytes, patience, clock)
    return DownloadedBuffer(partial.content, last)


async def _complete(
    session: aiohttp.ClientSession,
    url: str,
    partial: Partial,
    headers: Mapping[str, str] | None,
    progress: Progress | None,
    max_bytes: int | None,
    patience: Patience,
    clock: Clock | None,
) -> Mapping[str, str]:
    """Get all that is missing, in as many attempts as that needs; the last answer's headers."""
    retries = Retries(patience, clock)
    while True:
        before = partial.size
        try:
            hashing, last = await _get(
                session, url, partial, dict(headers or {}), progress, max_bytes, patience
            )
            break
        except Interrupted as interrupted:
            await retries.wait(interrupted, progress=partial.size >= before + BLOCK_BYTES)
    await partial.complete(hashing)
    return last


async def _get(
    session: aiohttp.ClientSession,
    url: str,
    partial: Partial,
    headers: dict[str, str],
    progress: Progress | None,
    max_bytes: int | None,
    patience: Patience,
) -> tuple[Hashing, Mapping[str, str]]:
    """One attempt to get what is missing."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.stall, sock_read=patience.stall)
    headers |= {hdrs.ACCEPT_ENCODING: "identity", **partial.conditions()}
    try:
        async with session.get(url, headers=headers, timeout=timeout) as response:
            if response.status not in _JUDGED:
                raise TransferRefused(response.status, await beginning(response.content))
            version, start = _judge(response, partial)
            most = version.size if max_bytes is None else max_bytes
            if most is not None and (version.size or 0) > most:
                raise TransferTooLarge(f"the file has {version.size} bytes, at most {most} are taken")
            await partial.begin(version, start)
            async with partial.writing(start) as sink:
                await _save(response.content, sink, partial, progress, most)
            return sink.hashing, response.headers
    except aiohttp.InvalidURL as error:
        raise TransferError("the address is not one") from error
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise Interrupted("the connection broke or could not be made") from error


def _judge(response: aiohttp.ClientResponse, partial: Partial) -> tuple[Version, int]:
    """Which version the answer brings, and from which byte on."""
    if response.status in COME_AGAIN:
        raise Interrupted.by(response.status, response.headers)
    if response.status == 416:
        partial.drop()
        raise Interrupted("the other side has another file now")
    try:
        version = Version.of(response.headers)
    except ValueError as error:
        raise TransferError(f"the answer cannot be read: {error}") from error
    if response.status == 200:
        return version, 0
    if not partial.continued_by(version, response.headers):
        partial.drop()
        raise Interrupted("the answer does not go on where the last one stopped")
    return version, partial.start


async def _save(
    content: aiohttp.StreamReader,
    sink: Sink,
    partial: Partial,
    progress: Progress | None,
    most: int | None,
) -> None:
    block = Block()
    try:
        while not content.at_eof():
            block.add((await content.readchunk())[0])  # as it came; other ways to read join what has come
            if most is not None and sink.size + block.size > most:
                block = Block()
                raise TransferTooLarge(f"more than {most} bytes came")
            if block.size >= BLOCK_BYTES:
                full, block = block, Block()
                await sink.append(full)
                tell(progress, sink.size, partial.version.size)
    finally:
        await sink.append(block)
        await sink.written()
        partial.size = sink.size
        tell(progress, sink.size, partial.version.size)


async def upload(
    session: aiohttp.ClientSession,
    url: str,
    path: Path,
    *,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    patience: Patience = PATIENCE,
    clock: Clock | None = None,
) -> Answer:
    """PUT a file, whatever the answer then is; only what may be repeated is.

    When the connection breaks after the last byte and before the answer, the file may be sent a second time.

    Raises:
        TransferError: interrupted too often.
        FileNotFoundError: there is no such file.
    """
    with opened(path) as file:
        source = FileSource(file, await undisturbed(digest_of, file))
        return await _send(session, url, source, headers, progress, patience, clock)


async def upload_buffers(
    session: aiohttp.ClientSession,
    url: str,
    buffers: Sequence[Buffer],
    algorithm: str,
    *,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    patience: Patience = PATIENCE,
    clock: Clock | None = None,
) -> Answer:
    """As `upload`, of the file that these buffers are one after the other, with its digest by `algorithm`."""
    source = BufferSource(buffers, await asyncio.to_thread(digest_of_buffers, buffers, algorithm))
    return await _send(session, url, source, headers, progress, patience, clock)


async def _send(
    session: aiohttp.ClientSession,
    url: str,
    source: Source,
    headers: Mapping[str, str] | None,
    progress: Progress | None,
    patience: Patience,
    clock: Clock | None,
) -> Answer:
    """The answer to all of it, in as many attempts as that needs."""
    sending = Sending(session, url, source, dict(headers or {}), progress)
    retries, offset, reached = Retries(patience, clock), 0, 0
    while True:
        try:
            answer = await sending.put(offset, patience.stall)
            if answer.status == 416:
                raise Interrupted("the other side is at another byte")
            if answer.status not in COME_AGAIN:
                return answer
            raise Interrupted.by(answer.status, answer.headers)
        except Interrupted as interrupted:
            await retries.wait(interrupted, progress=offset >= reached + BLOCK_BYTES)
        reached = max(reached, offset)
        offset = await sending.arrived(patience.stall)

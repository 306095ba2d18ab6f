"""Model files out: `GET` and `HEAD` with `Range`, `If-Range`, `If-None-Match` (RFC 9110) and `Repr-Digest`.

The entity tag is made of the file's digest, so it stays the same wherever a copy comes from, and a client that
goes on with half a file is sure that it is the same one.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from io import FileIO
from pathlib import Path

from aiohttp import hdrs, web

from sbi.digests import REPR_DIGEST, Digest, digest_of, etag, wanted_algorithm
from sbi.errors import NotFound
from sbi.hashed_file import BLOCK_BYTES, opened
from sbi.problems import problem_response

Source = Callable[[int, int], AsyncIterator[bytes]]
"""(start, stop) -> the bytes in between, in pieces."""

STALLED_SECONDS = 60.0
"""A receiver that takes less than one piece in so many seconds is given up."""

_PIECE = 1 << 18
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


async def send(
    request: web.Request, source: Source, size: int, digest: Digest, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer with `size` bytes of a source, or with the part of them that the request asks for.

    Args:
        request: GET or HEAD.
        source: gives the bytes; an error that it raises closes the connection before the end.
        size: of the whole.
        digest: of the whole.
        headers: more of them, e.g. another Content-Type than `application/octet-stream`.
    """
    tag = etag(digest, size)
    about = {hdrs.ETAG: tag, hdrs.ACCEPT_RANGES: "bytes", **(headers or {})}
    if _matches(request.headers.get(hdrs.IF_NONE_MATCH), tag):
        return web.Response(status=304, headers=about)
    about = {hdrs.CONTENT_TYPE: "application/octet-stream", REPR_DIGEST: str(digest), **about}
    part = _range(request, size, tag)
    if part is None:
        return await _stream(request, source, 0, size, web.StreamResponse(headers=about))
    start, stop = part
    if start >= stop:
        return problem_response(
            416, f"there are {size} bytes", headers={hdrs.CONTENT_RANGE: f"bytes */{size}", hdrs.ETAG: tag}
        )
    about[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{size}"
    return await _stream(request, source, start, stop, web.StreamResponse(status=206, headers=about))


async def send_file(
    request: web.Request, path: Path, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """`send` the file at `path`, as it is now even if it is replaced meanwhile, with the digest that is wanted.

    Raises:
        NotFound: there is no such file.
    """
    try:
        file = opened(path)
    except FileNotFoundError as error:
        raise NotFound("this file is no longer here") from error
    with file:
        digest = await asyncio.to_thread(digest_of, file, wanted_algorithm(request.headers))
        size = file.seek(0, 2)
        return await send(request, lambda start, stop: _read(file, start, stop), size, digest, headers)


async def _read(file: FileIO, start: int, stop: int) -> AsyncIterator[bytes]:
    file.seek(start)
    while start < stop and (data := await asyncio.to_thread(file.read, min(BLOCK_BYTES, stop - start))):
        yield data
        start += len(data)


async def _stream(
    request: web.Request, source: Source, start: int, stop: int, response: web.StreamResponse
) -> web.StreamResponse:
    response.content_length = stop - start
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        async for data in source(start, stop):
            for at in range(0, len(data), _PIECE):
                async with asyncio.timeout(STALLED_SECONDS):
                    await response.write(data[at : at + _PIECE])
        await response.write_eof()
    except (ConnectionError, TimeoutError):
        _break_off(request)
    except BaseException:
        _break_off(request)  # or the answer about the error would be taken for the rest of the file
        raise
    return response


def _break_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _range(request: web.Request, size: int, tag: str) -> tuple[int, int] | None:
    """Start and stop of the one range that is asked for and that applies; None: the whole (RFC 9110 14.2)."""
    found = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "")) if request.method == hdrs.METH_GET else None
    if found is None or found[0] == "bytes=-" or request.headers.get(hdrs.IF_RANGE, tag) != tag:
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    first, last = int(found[1]), int(found[2] or size)
    return (first, min(last + 1, size)) if first <= last or not found[2] else None


def _matches(condition: str | None, tag: str) -> bool:
    """Whether an If-None-Match names the tag, weakly compared (RFC 9110 13.1.2)."""
    tags = [name.strip().removeprefix("W/") for name in (condition or "").split(",")]
    return tag in tags or tags == ["*"]

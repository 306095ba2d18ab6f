"""Files that are read and written outside the event loop; one that grows by appending knows its SHA-256."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

BLOCK = 1 << 20
"""Bytes worth a switch to a thread and back."""


class HashedFile:
    """An open file; use `appending`.

    Attributes:
        size: bytes in it.
    """

    def __init__(self, descriptor: int, size: int, digest: "hashlib._Hash") -> None:
        self._descriptor = descriptor
        self._digest = digest
        self.size = size

    @property
    def sha256(self) -> str:
        """Hexadecimal, of everything in the file."""
        return self._digest.hexdigest()

    async def append(self, data: bytes | bytearray) -> None:
        """Write all of `data`; when cancelled, write it and then be cancelled."""
        await undisturbed(self._append, data)

    def _append(self, data: bytes | bytearray) -> None:
        self._digest.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(data)


def opened(path: Path) -> FileIO:
    """The file at `path`, for reading.

    Opened in the loop: what a thread opens is lost, and stays open, when its caller is cancelled meanwhile.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return FileIO(path)


@asynccontextmanager
async def appending(path: Path, keep: int) -> AsyncIterator[HashedFile]:
    """The file at `path` (made with mode 0600 if need be), cut to its first `keep` bytes, to be appended to.

    Raises:
        BlockingIOError: another process appends to it, or has begun it anew.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size < keep:
            raise BlockingIOError("another process has begun it anew")
        digest = await undisturbed(_cut, descriptor, keep)
        yield HashedFile(descriptor, keep, digest)
    finally:
        os.close(descriptor)


async def undisturbed(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread; a cancellation waits for its end, so that nobody meets it half done."""
    work: asyncio.Future[Any] = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        result: T = await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
    return result


def _cut(descriptor: int, keep: int) -> "hashlib._Hash":
    """Cut the file; the digest of what is left."""
    os.ftruncate(descriptor, keep)
    digest = hashlib.sha256()
    while block := os.read(descriptor, BLOCK):
        digest.update(block)
    return digest

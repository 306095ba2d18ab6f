"""Files that are read and written outside the event loop; one that grows by appending knows its digests."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path

from sbi.digests import SHA256, Hashing
from sbi.undisturbed import finished, undisturbed

BLOCK_BYTES = 1 << 20
"""Bytes worth a switch to a thread and back."""

_MOST_PIECES = 512
"""Pieces of a block: one system call writes 1024, and each costs memory of its own."""


class Block:
    """Bytes on their way to a file, in the pieces in which they came.

    Attributes:
        size: bytes in it.
    """

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.size = sum(map(len, pieces))

    def add(self, piece: bytes) -> None:
        """Add what came next."""
        self.pieces.append(piece)
        self.size += len(piece)
        if len(self.pieces) > _MOST_PIECES:
            self.pieces = [b"".join(self.pieces)]


class HashedFile:
    """An open file; use `appending`.

    Attributes:
        size: bytes in it, those included that are still being written.
        hashing: of everything that is written.
    """

    def __init__(self, descriptor: int, size: int, hashing: Hashing) -> None:
        self._descriptor = descriptor
        self._writing: asyncio.Task[None] | None = None
        self.size = size
        self.hashing = hashing

    async def append(self, block: Block) -> None:
        """Begin to write a block, once the one before it is written: so the next one can be received meanwhile.

        Raises:
            OSError: the one before it could not be written.
        """
        await self.written()
        self.size += block.size
        self._writing = asyncio.create_task(asyncio.to_thread(self._append, block))

    async def written(self) -> None:
        """Return when everything is written; when cancelled, then be cancelled.

        Raises:
            OSError: it could not be.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            await finished(writing)

    def _append(self, block: Block) -> None:
        for piece in block.pieces:
            self.hashing.update(piece)
        written = os.writev(self._descriptor, block.pieces)
        if written < block.size:  # such as on a disk that has just filled
            rest = memoryview(b"".join(block.pieces))[written:]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def opened(path: Path) -> FileIO:
    """The file at `path`, for reading.

    Opened in the loop: what a thread opens is lost, and stays open, when its caller is cancelled meanwhile.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return FileIO(path)


@asynccontextmanager
async def appending(
    path: Path, keep: int, algorithms: Iterable[str] = (SHA256,)
) -> AsyncIterator[HashedFile]:
    """The file at `path` (made with mode 0600 if need be), cut to its first `keep` bytes, to be appended to.

    Raises:
        BlockingIOError: another process appends to it, or has begun it anew.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(descriptor).st_size
        if size < keep:
            raise BlockingIOError("another process has begun it anew")
        hashing = Hashing(algorithms)
        if size:
            await undisturbed(_cut, descriptor, keep, hashing)
        file = HashedFile(descriptor, keep, hashing)
        try:
            yield file
        finally:
            await file.written()
    finally:
        os.close(descriptor)


def _cut(descriptor: int, keep: int, hashing: Hashing) -> None:
    """Cut the file, and take in what is left.

    Only a file that is longer: ext4 writes to the disk at once, on closing, what was ever cut to nothing, and
    freeing it there takes forty times as long as dropping what is in memory only.
    """
    if os.fstat(descriptor).st_size > keep:
        os.ftruncate(descriptor, keep)
    while block := os.read(descriptor, BLOCK_BYTES):
        hashing.update(block)

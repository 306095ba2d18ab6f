"""Model bytes in the database (GridFS), so that every replica of the server has them.

An artifact is a document that points at a GridFS file. A new file is written beside the old one and becomes
the artifact in one transaction, so a reader sees the whole old or the whole new one. Files that no artifact
points at (not finished yet, replaced, deleted) stand in a list from before their first byte until they are
removed: `sweep` removes those that are old enough, which leaves readers the time to finish and cleans up
after a crash.

The files have the layout of GridFS, so the usual tools read them. Chunks are written and read one by one: the
driver's own streams gather 32 MB before each write, for every transfer.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path

from bson import ObjectId
from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document, Session
from sbi.clock import Clock
from sbi.digests import SHA256
from sbi.errors import NotFound, Unavailable
from sbi.hashed_file import Block, appending, opened

CHUNK_BYTES = 2 << 20

_ARTIFACTS = "artifacts"
_GARBAGE = "artifact_garbage"
_FILES = "artifact_bytes.files"
_CHUNKS = "artifact_bytes.chunks"

INDEXES: Mapping[str, Sequence[IndexModel]] = {
    _GARBAGE: [IndexModel([("at", ASCENDING)])],
    _CHUNKS: [IndexModel([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)],
}


Condition = Callable[[Session], Awaitable[None]]
"""(session) -> None, or raises; what it reads must be written by it too, to hold when the transaction commits."""


class CorruptArtifact(Exception):
    """The bytes are not those that the digest stands for."""


@dataclass(frozen=True)
class Artifact:
    """One version of an artifact.

    Attributes:
        id: the name it was stored under.
        size: bytes.
        sha256: of all its bytes, in hexadecimal.
        file: the GridFS file, another one after each `put`.
        chunk_size: bytes of each of its chunks but the last.
    """

    id: str
    size: int
    sha256: str
    file: ObjectId
    chunk_size: int


class Artifacts:
    """Stores files under names and reads them back whole or in part, a few MiB in memory at a time."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        """`clock` dates what `sweep` removes."""
        self._database = database
        self._clock = clock or Clock()
        self._artifacts = database[_ARTIFACTS]
        self._garbage = database[_GARBAGE]
        self._files = database[_FILES]
        self._chunks = database[_CHUNKS]

    async def put(
        self, artifact_id: str, path: Path, sha256: str, condition: Condition | None = None
    ) -> Artifact:
        """Store the file's bytes under this name, in place of what was there.

        Raises:
            CorruptArtifact: the file's digest is not `sha256`; what was there stays.
            Exception: what `condition` raises in the transaction that makes the bytes the artifact; the same.
            Unavailable: writing took so long that `sweep` took it for abandoned.
        """
        with opened(path) as source:
            async with aclosing(_chunks_of(source)) as chunks:
                return await self._put(artifact_id, chunks, sha256, condition)

    async def put_chunks(
        self, artifact_id: str, chunks: AsyncIterator[bytes], condition: Condition | None = None
    ) -> Artifact:
        """As `put`, of chunks that are made only now: `CHUNK_BYTES` each, the last one may be shorter."""
        return await self._put(artifact_id, chunks, None, condition)

    async def _put(
        self,
        artifact_id: str,
        chunks: AsyncIterator[bytes],
        expected: str | None,
        condition: Condition | None,
    ) -> Artifact:
        file = ObjectId()
        await self._garbage.insert_one({"_id": file, "at": self._clock.now()})
        size, sha256 = await self._write(file, artifact_id, chunks)
        if expected not in (None, sha256):
            raise CorruptArtifact(f"the bytes for {artifact_id} are not those of their digest")
        artifact = Artifact(artifact_id, size, sha256, file, CHUNK_BYTES)
        await self._point(artifact, condition)
        return artifact

    async def find(self, artifact_id: str) -> Artifact | None:
        """What is stored under this name now."""
        found = await self._artifacts.find_one({"_id": artifact_id})
        if found is None:
            return None
        return Artifact(artifact_id, found["size"], found["sha256"], found["file"], found["chunkSize"])

    async def read(self, artifact: Artifact, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop` (or the end), a chunk at a time.

        Raises:
            NotFound: this version was replaced or deleted, and swept, while it was read.
        """
        stop = artifact.size if stop is None else min(stop, artifact.size)
        while start < stop:
            number, skip = divmod(start, artifact.chunk_size)
            chunk = await self._chunks.find_one({"files_id": artifact.file, "n": number}, {"data": 1})
            if chunk is None:
                raise NotFound(f"the bytes of {artifact.id} are no longer stored")
            data: bytes = chunk["data"][skip : skip + stop - start]
            yield data
            start += len(data)

    async def copy_to(self, artifact_id: str, path: Path) -> Artifact:
        """Write the bytes to a new file at `path`, which is whole and right when this returns.

        Raises:
            NotFound: nothing is stored under this name.
            CorruptArtifact: the stored bytes do not have their digest; there is no file then.
        """
        artifact = await self.find(artifact_id)
        if artifact is None:
            raise NotFound(f"no bytes are stored for {artifact_id}")
        part = path.with_name(f".{path.name}.{ObjectId()}")
        try:
            await self._copy(artifact, part)
            await asyncio.to_thread(part.replace, path)  # freeing what was there takes its time
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return artifact

    async def delete(self, artifact_id: str) -> bool:
        """Forget what is stored under this name; whether there was something."""

        async def forget(session: Session) -> bool:
            found = await self._artifacts.find_one({"_id": artifact_id}, session=session)
            if found is not None:
                await self._artifacts.delete_one({"_id": artifact_id}, session=session)
                await self._discard(found, session)
            return found is not None

        return await self._database.run_in_transaction(forget)

    async def sweep(self, before: datetime) -> int:
        """Remove the files that no artifact points at since `before`; how many those were."""
        stale = await self._garbage.find({"at": {"$lt": before}}).to_list(None)
        for entry in stale:
            await self._files.delete_one({"_id": entry["_id"]})
            await self._chunks.delete_many({"files_id": entry["_id"]})
            await self._garbage.delete_one({"_id": entry["_id"]})
        return len(stale)

    async def _write(self, file: ObjectId, name: str, chunks: AsyncIterator[bytes]) -> tuple[int, str]:
        """Size and SHA-256 of what was written."""
        digest, size, number = hashlib.sha256(), 0, 0
        async for data in chunks:
            chunk = {"files_id": file, "n": number, "data": data}
            await asyncio.gather(self._chunks.insert_one(chunk), asyncio.to_thread(digest.update, data))
            size, number = size + len(data), number + 1
        entry = {"length": size, "chunkSize": CHUNK_BYTES, "uploadDate": self._clock.now(), "filename": name}
        await self._files.insert_one({"_id": file, **entry})
        return size, digest.hexdigest()

    async def _point(self, artifact: Artifact, condition: Condition | None) -> None:
        document = {
            "_id": artifact.id,
            "size": artifact.size,
            "sha256": artifact.sha256,
            "file": artifact.file,
            "chunkSize": artifact.chunk_size,
        }

        async def swap(session: Session) -> None:
            if condition is not None:
                await condition(session)
            previous = await self._artifacts.find_one({"_id": artifact.id}, session=session)
            await self._artifacts.replace_one({"_id": artifact.id}, document, upsert=True, session=session)
            kept = await self._garbage.delete_one({"_id": artifact.file}, session=session)
            if kept.deleted_count == 0:
                raise Unavailable(f"storing the bytes of {artifact.id} took too long")
            if previous is not None:
                await self._discard(previous, session)

        await self._database.run_in_transaction(swap)

    async def _discard(self, document: Document, session: Session) -> None:
        entry = {"_id": document["file"], "at": self._clock.now()}
        await self._garbage.insert_one(entry, session=session)

    async def _copy(self, artifact: Artifact, path: Path) -> None:
        async with appending(path, 0) as target:
            async for data in self.read(artifact):
                await target.append(Block(data))
        if target.hashing.digest(SHA256).hex != artifact.sha256:
            raise CorruptArtifact(f"the stored bytes of {artifact.id} are not those of their digest")


async def _chunks_of(source: FileIO) -> AsyncGenerator[bytes, None]:
    while data := await asyncio.to_thread(source.read, CHUNK_BYTES):
        yield data

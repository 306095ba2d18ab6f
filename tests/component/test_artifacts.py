"""Model bytes in the database: whole or not at all, in part on request, and never all in memory."""

import asyncio
import hashlib
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from ml_repository.artifacts import CHUNK_BYTES, INDEXES, Artifact, Artifacts, CorruptArtifact
from ml_repository.database import Database
from ml_repository.outbox import Outbox
from ml_repository.trainings import Holder, LeaseLost, Trainings
from sbi.errors import NotFound, Unavailable
from tests.support import START, eventually

SIZE = 2 * CHUNK_BYTES + 12_345


@pytest.fixture
async def artifacts(database: Database) -> Artifacts:
    """An empty store."""
    await database.ensure_indexes(INDEXES)
    return Artifacts(database)


async def test_bytes_come_back_as_they_were_stored(artifacts: Artifacts, tmp_path: Path) -> None:
    """What was put is found with its size and digest, and copied byte for byte."""
    path, sha256 = _file(tmp_path / "model")
    await artifacts.put("m1", path, sha256)
    copied = await artifacts.copy_to("m1", tmp_path / "copy")
    assert (copied.id, copied.size, copied.sha256) == ("m1", SIZE, sha256)
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert _names(tmp_path) == ["copy", "model"]


async def test_a_server_that_lost_a_training_stores_no_checkpoint(
    artifacts: Artifacts, database: Database, tmp_path: Path
) -> None:
    """What its successor has stored under the same name stays, and the late one hears of it."""
    trainings = Trainings(database, Outbox(database))
    lease = {"_holder": "first", "_lease_until": START, "_open": True}
    await database["trainings"].insert_one({"_id": "t", **lease})
    (early, early_sha256), (late, late_sha256) = _file(tmp_path / "early"), _file(tmp_path / "late")
    await artifacts.put("round-1", early, early_sha256, partial(trainings.hold, "t", "first"))
    until = START + timedelta(days=1)
    assert await trainings.claim(Holder("second", ""), START + timedelta(hours=1), until, 1)
    await artifacts.put("round-1", late, late_sha256, partial(trainings.hold, "t", "second"))
    with pytest.raises(LeaseLost):
        await artifacts.put("round-1", early, early_sha256, partial(trainings.hold, "t", "first"))
    assert (await artifacts.copy_to("round-1", tmp_path / "copy")).sha256 == late_sha256


async def test_an_empty_file_is_an_artifact_too(artifacts: Artifacts, tmp_path: Path) -> None:
    """Zero bytes are stored and read like any number."""
    path, sha256 = _file(tmp_path / "model", 0)
    await artifacts.put("m1", path, sha256)
    assert (await artifacts.copy_to("m1", tmp_path / "copy")).size == 0
    assert (tmp_path / "copy").read_bytes() == b""


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 1),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (CHUNK_BYTES, 2 * CHUNK_BYTES),
        (5, None),
        (SIZE - 1, SIZE + 9),
        (SIZE, None),
        (7, 7),
    ],
)
async def test_a_range_is_exactly_those_bytes(
    artifacts: Artifacts, tmp_path: Path, start: int, stop: int | None
) -> None:
    """A range gives the bytes from its start up to its stop or the end, also across chunks."""
    path, sha256 = _file(tmp_path / "model")
    artifact = await artifacts.put("m1", path, sha256)
    assert await _bytes(artifacts, artifact, start, stop) == path.read_bytes()[start:stop]


async def test_nothing_is_found_where_nothing_was_put(artifacts: Artifacts, tmp_path: Path) -> None:
    """An unknown name has no artifact, nothing to copy and nothing to delete."""
    assert await artifacts.find("m1") is None
    assert await artifacts.delete("m1") is False
    with pytest.raises(NotFound, match="m1"):
        await artifacts.copy_to("m1", tmp_path / "copy")
    assert _names(tmp_path) == []


async def test_a_wrong_digest_stores_nothing_and_keeps_the_old(artifacts: Artifacts, tmp_path: Path) -> None:
    """Bytes that are not those of the digest leave what was stored before."""
    path, sha256 = _file(tmp_path / "model")
    await artifacts.put("m1", path, sha256)
    with pytest.raises(CorruptArtifact, match="m1"):
        await artifacts.put("m1", path, "0" * 64)
    assert (await artifacts.copy_to("m1", tmp_path / "copy")).sha256 == sha256


async def test_a_reader_of_the_old_version_finishes(artifacts: Artifacts, tmp_path: Path) -> None:
    """Replacing changes what is found at once, and a reader still gets the whole version it began with."""
    old, old_sha256 = _file(tmp_path / "old")
    new, new_sha256 = _file(tmp_path / "new")
    await artifacts.put("m1", old, old_sha256)
    before = await artifacts.find("m1")
    assert before is not None
    reading = artifacts.read(before)
    first = await anext(reading)
    await artifacts.put("m1", new, new_sha256)
    found = await artifacts.find("m1")
    assert found is not None
    assert found.sha256 == new_sha256
    assert first + b"".join([data async for data in reading]) == old.read_bytes()


async def test_a_reader_of_swept_bytes_is_told(artifacts: Artifacts, tmp_path: Path) -> None:
    """A reader whose version was deleted and swept gets an error, never fewer bytes in silence."""
    path, sha256 = _file(tmp_path / "model")
    artifact = await artifacts.put("m1", path, sha256)
    reading = artifacts.read(artifact)
    await anext(reading)
    assert await artifacts.delete("m1") is True
    assert await artifacts.sweep(_later()) == 1
    with pytest.raises(NotFound, match="no longer stored"):
        await anext(reading)


async def test_sweep_removes_what_no_artifact_points_at(
    artifacts: Artifacts, database: Database, tmp_path: Path
) -> None:
    """Replaced, deleted and half-written bytes leave the database, the present ones stay."""
    path, sha256 = _file(tmp_path / "model")
    kept = await artifacts.put("kept", path, sha256)
    for _ in range(2):
        kept = await artifacts.put("kept", path, sha256)
    await artifacts.put("deleted", path, sha256)
    await artifacts.delete("deleted")
    with pytest.raises(CorruptArtifact):
        await artifacts.put("broken", path, "0" * 64)
    assert await artifacts.sweep(datetime.now(UTC) - timedelta(hours=1)) == 0, "readers have time to finish"
    assert await artifacts.sweep(_later()) == 4
    assert await database["artifact_bytes.chunks"].distinct("files_id") == [kept.file]
    assert await database["artifact_bytes.files"].distinct("_id") == [kept.file]
    assert await artifacts.sweep(_later()) == 0
    assert await _bytes(artifacts, kept) == path.read_bytes()


async def test_a_writer_that_was_swept_does_not_become_the_artifact(
    artifacts: Artifacts, database: Database, tmp_path: Path
) -> None:
    """An upload taken for abandoned fails; it never leaves an artifact without bytes."""
    path, sha256 = _file(tmp_path / "model", 20 * CHUNK_BYTES)
    writing = asyncio.create_task(artifacts.put("m1", path, sha256))
    await eventually(lambda: artifacts.sweep(_later()))
    with pytest.raises(Unavailable, match="m1"):
        await writing
    assert await artifacts.find("m1") is None


async def test_parallel_writers_leave_one_whole_version(artifacts: Artifacts, tmp_path: Path) -> None:
    """Of several writers under one name one is last, and the stored bytes are all its own."""
    files = [_file(tmp_path / f"model{number}") for number in range(4)]
    await asyncio.gather(*(artifacts.put("m1", path, sha256) for path, sha256 in files))
    copied = await artifacts.copy_to("m1", tmp_path / "copy")
    assert copied.sha256 in {sha256 for _, sha256 in files}
    assert await artifacts.sweep(_later()) == 3


async def test_damaged_bytes_are_not_copied(artifacts: Artifacts, database: Database, tmp_path: Path) -> None:
    """One changed bit in the database: the copy is refused and no file appears."""
    path, sha256 = _file(tmp_path / "model")
    await artifacts.put("m1", path, sha256)
    chunks = database["artifact_bytes.chunks"]
    chunk = await chunks.find_one({"n": 1})
    assert chunk is not None
    damaged = bytes([chunk["data"][0] ^ 1]) + chunk["data"][1:]
    await chunks.update_one({"_id": chunk["_id"]}, {"$set": {"data": damaged}})
    with pytest.raises(CorruptArtifact, match="m1"):
        await artifacts.copy_to("m1", tmp_path / "copy")
    assert _names(tmp_path) == ["model"]


async def test_chunks_are_found_by_index(artifacts: Artifacts, database: Database, tmp_path: Path) -> None:
    """Reading and removing chunks scans no collection."""
    path, sha256 = _file(tmp_path / "model")
    artifact = await artifacts.put("m1", path, sha256)
    for query in ({"files_id": artifact.file, "n": 1}, {"files_id": artifact.file}):
        plan = await database["artifact_bytes.chunks"].find(query).explain()
        assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])
    plan = await database["artifact_garbage"].find({"at": {"$lt": _later()}}).explain()
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])


async def test_memory_does_not_grow_with_the_file(artifacts: Artifacts, tmp_path: Path) -> None:
    """Storing and copying 64 MiB takes a few chunks of memory."""
    path, sha256 = _file(tmp_path / "model", 64 << 20)
    tracemalloc.start()
    try:
        await artifacts.put("m1", path, sha256)
        await artifacts.copy_to("m1", tmp_path / "copy")
        assert tracemalloc.get_traced_memory()[1] < 8 * CHUNK_BYTES
    finally:
        tracemalloc.stop()


def _file(path: Path, size: int = SIZE) -> tuple[Path, str]:
    path.write_bytes(os.urandom(size))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


async def _bytes(artifacts: Artifacts, artifact: Artifact, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([data async for data in artifacts.read(artifact, start, stop)])


def _later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)

"""A file that is read while it is written."""

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from sbi.growing import Reached, chunks_while_written
from sbi.tensors import TensorWriter, unfinished

CHUNK = 1000
LAYOUT = dict.fromkeys(("a", "b", "c"), ("F32", (300,)))


class Writing:
    """Writes a model, one tensor each time it may."""

    def __init__(self, path: Path, error: Exception | None = None) -> None:
        self.path = path
        self.may = [threading.Event() for _ in LAYOUT]
        self.ended = threading.Event()
        self._error = error

    def __call__(self, reached: Reached) -> None:
        """In a thread."""
        try:
            with TensorWriter(self.path, LAYOUT, {}, reached) as writer:
                for name, may in zip(LAYOUT, self.may, strict=True):
                    may.wait(10)
                    writer.put(name, 0, np.full(300, ord(name), np.float32))
                if self._error:
                    raise self._error
        finally:
            self.ended.set()

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """What is read meanwhile."""
        return chunks_while_written(self, unfinished(self.path), self.path, CHUNK)


async def test_a_chunk_comes_before_the_next_is_written(tmp_path: Path) -> None:
    """The first ones while the file is not at its place yet, the last with its end."""
    writing = Writing(tmp_path / "model")
    read = bytearray()
    writing.may[0].set()
    async with aclosing(writing.chunks()) as chunks:
        read += await anext(chunks)
        assert not writing.path.exists()
        for may in writing.may[1:]:
            may.set()
        read += await _rest(chunks)
    assert read == writing.path.read_bytes()


async def test_a_file_that_is_written_at_once_is_read_too(tmp_path: Path) -> None:
    """However small it is, and however late it is looked at."""
    writing = Writing(tmp_path / "model")
    for may in writing.may:
        may.set()
    assert await _rest(writing.chunks()) == writing.path.read_bytes()


@pytest.mark.parametrize("put_first", [1, 3])
async def test_what_the_writer_raises_is_raised(tmp_path: Path, put_first: int) -> None:
    """Whatever was read before; nothing of the file stays."""
    writing = Writing(tmp_path / "model", ValueError("not finite"))
    for may in writing.may[:put_first]:
        may.set()
    async with aclosing(writing.chunks()) as chunks:
        await anext(chunks) if put_first < 3 else None
        for may in writing.may:
            may.set()
        with pytest.raises(ValueError, match="not finite"):
            await _rest(chunks)
    assert os.listdir(tmp_path) == []


async def test_whoever_stops_early_waits_for_the_writer(tmp_path: Path) -> None:
    """Nobody meets the thread afterwards."""
    writing = Writing(tmp_path / "model")
    writing.may[0].set()
    async with aclosing(writing.chunks()) as chunks:
        await anext(chunks)
        for may in writing.may[1:]:
            may.set()
    assert writing.ended.is_set()
    assert writing.path.exists()


async def _rest(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])

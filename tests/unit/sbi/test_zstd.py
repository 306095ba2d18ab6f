"""Packed files: what comes out is what went in, and no more than is allowed."""

import os
import resource
from pathlib import Path

import pytest
import zstandard

from sbi.errors import InvalidRequest, PayloadTooLarge
from sbi.zstd import packed, unpack

MIB = 2**20


@pytest.mark.parametrize(
    "content", [b"", b"model" * MIB, os.urandom(3 * MIB + 7)], ids=["empty", "much", "noise"]
)
def test_a_file_comes_out_as_it_went_in(tmp_path: Path, content: bytes) -> None:
    """Also where it has exactly as many bytes as it may; and the zstd library itself reads it."""
    path = tmp_path / "model"
    path.write_bytes(b"".join(packed([content[:10], memoryview(content)[10:]])))
    assert zstandard.ZstdDecompressor().decompress(path.read_bytes()) == content
    unpack(path, len(content))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_bomb_costs_neither_memory_nor_disk(tmp_path: Path) -> None:
    """A gigabyte in a few kilobytes: refused, with the memory of a block, and nothing is left beside it."""
    path = tmp_path / "bomb"
    packing = zstandard.ZstdCompressor().compressobj()
    path.write_bytes(b"".join(packing.compress(bytes(MIB)) for _ in range(1024)) + packing.flush())
    assert path.stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PayloadTooLarge, match="at most 5000 bytes"):
        unpack(path, 5000)
    with pytest.raises(PayloadTooLarge):
        unpack(path, 100 * MIB)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 32 * MIB
    assert list(tmp_path.iterdir()) == [path]


def test_a_large_window_is_refused(tmp_path: Path) -> None:
    """A decoder need not remember more than 8 MiB (RFC 9659), whatever a frame asks for."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = tmp_path / "model"
    path.write_bytes(packing.compress(os.urandom(MIB)) + packing.flush())
    with pytest.raises(InvalidRequest, match="too much memory"):
        unpack(path, 2 * MIB)


@pytest.mark.parametrize(
    "content", [b"\x08\0\0\0\0\0\0\0{}", zstandard.compress(b"model") + b"more and more"]
)
def test_what_is_not_zstd_is_refused(tmp_path: Path, content: bytes) -> None:
    """From the beginning, or behind a frame."""
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="not in its Content-Encoding"):
        unpack(path, MIB)

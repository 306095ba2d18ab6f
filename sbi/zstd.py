"""The content coding `zstd` of updates (RFC 8878): packed in memory, unpacked as files within bounds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import zstandard

from sbi.digests import Buffer
from sbi.errors import InvalidRequest, PayloadTooLarge
from sbi.hashed_file import BLOCK_BYTES

CODING = "zstd"
"""The value of Content-Encoding."""

_LEVEL = 3
_WINDOW = 8 * 2**20
"""Bytes that a decoder remembers at most: what RFC 9659 allows this content coding to ask of it."""


def packed(buffers: Sequence[Buffer]) -> Iterator[bytes]:
    """The file that these are one after the other, as one zstd frame."""
    packing = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=sum(map(len, buffers)))
    for buffer in buffers:
        yield packing.compress(buffer)
    yield packing.flush()


def unpack(path: Path, most: int) -> None:
    """Put the unpacked file in the place of the packed one at `path`; not in the event loop.

    It takes memory for the window and a block, and never more than `most` bytes of disk. A frame that is cut short
    gives what is there of it: that this is a whole file is for its own format to say.

    Raises:
        PayloadTooLarge: it has more than `most` bytes.
        InvalidRequest: it is not zstd, or needs a larger window than a content coding may.
    """
    target = path.with_name(f"{path.name}.unpacked")
    try:
        with path.open("rb") as source, target.open("wb") as out:
            for block in _unpacked(source, most):
                out.write(block)
        target.replace(path)
    except zstandard.ZstdError as error:
        raise InvalidRequest(f"the body is not in its Content-Encoding: {error}") from error
    finally:
        target.unlink(missing_ok=True)


def _unpacked(source: BinaryIO, most: int) -> Iterator[memoryview]:
    """The blocks of a packed file; each is valid until the next one is asked for."""
    decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    block, size = memoryview(bytearray(BLOCK_BYTES)), 0
    with decoder.stream_reader(source, read_across_frames=True, closefd=False) as reader:
        while count := reader.readinto(block):
            size += count
            if size > most:
                raise PayloadTooLarge(f"at most {most} bytes are taken")
            yield block[:count]

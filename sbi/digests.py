"""Digests of model files on the wire: `Repr-Digest` and `Want-Repr-Digest` (RFC 9530), and entity tags made of them.

SHA-256 tells files apart; it is what everybody gets who asks for nothing. CRC32C only notices what was damaged on
the way, eight times as fast: enough for what travels within a round, between parties that know each other.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from typing import Any, Protocol

import google_crc32c
import numpy as np

REPR_DIGEST = "Repr-Digest"
WANT_REPR_DIGEST = "Want-Repr-Digest"

SHA256 = "sha-256"
CRC32C = "crc32c"

Buffer = bytes | bytearray | memoryview

_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]*={0,2}):[ \t]*(?:;.*)?")
_READ_BYTES = 1 << 20


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...

    def digest(self) -> bytes: ...


_ALGORITHMS: Mapping[str, tuple[int, Callable[[], _Hash]]] = {
    SHA256: (32, hashlib.sha256),
    CRC32C: (4, google_crc32c.Checksum),
}
"""Bytes of a digest, and what makes one; the first is the one to prefer."""


@dataclass(frozen=True)
class Digest:
    """The digest of a whole file, `value`, by one of the algorithms above."""

    algorithm: str
    value: bytes

    def __str__(self) -> str:
        """As headers have it: `sha-256=:base64:`."""
        return f"{self.algorithm}=:{base64.b64encode(self.value).decode()}:"

    @property
    def hex(self) -> str:
        """Hexadecimal."""
        return self.value.hex()


class Hashing:
    """Digests, by some algorithms, of bytes that come one after another."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: _ALGORITHMS[name][1]() for name in algorithms}

    def update(self, data: Buffer) -> None:
        """Take in what comes next."""
        if len(data):
            plain = np.frombuffer(data, np.uint8)  # what every implementation takes, without a copy
            for each in self._hashes.values():
                each.update(plain)

    def digest(self, algorithm: str) -> Digest:
        """Of all that came so far.

        Raises:
            KeyError: this algorithm is none of those asked for.
        """
        return Digest(algorithm, self._hashes[algorithm].digest())


def sha256(hexadecimal: str) -> Digest:
    """The SHA-256 that is written so."""
    return Digest(SHA256, bytes.fromhex(hexadecimal))


def announced_digest(headers: Mapping[str, str]) -> Digest | None:
    """What a `Repr-Digest` names, the SHA-256 if it can be chosen; None without one that we know.

    Raises:
        ValueError: there is one and it cannot be read.
    """
    for algorithm, (size, _) in _ALGORITHMS.items():
        if (text := _member(headers.get(REPR_DIGEST, ""), algorithm)) is not None:
            return Digest(algorithm, _bytes(text, algorithm, size))
    return None


def wanted_algorithm(headers: Mapping[str, str]) -> str:
    """The algorithm that a `Want-Repr-Digest` prefers; SHA-256 unless it says otherwise."""
    text = headers.get(WANT_REPR_DIGEST, "")
    return max(_ALGORITHMS, key=lambda name: (_preference(_member(text, name)), name == SHA256))


def etag(digest: Digest, size: int) -> str:
    """The strong entity tag of a file of `size` bytes, quotes included."""
    return f'"{digest.hex}"' if digest.algorithm == SHA256 else f'"{digest.hex}-{size}"'


def tagged_sha256(entity_tag: str | None) -> Digest | None:
    """The SHA-256 that an entity tag of ours is made of; None for anybody else's."""
    found = re.fullmatch(r'"([0-9a-f]{64})"', entity_tag or "")
    return found and sha256(found[1])


def digest_of(file: FileIO, algorithm: str = SHA256) -> Digest:
    """Of an open file, remembered until the file changes; reads all of it, so not in the loop."""
    stat = os.fstat(file.fileno())
    return _digest(_OpenFile(file, (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)), algorithm)


def digest_of_buffers(buffers: Iterable[Buffer], algorithm: str) -> Digest:
    """Of the file that these are one after the other."""
    hashing = Hashing([algorithm])
    for buffer in buffers:
        hashing.update(buffer)
    return hashing.digest(algorithm)


def _member(dictionary: str, name: str) -> str | None:
    """The value of a member of a dictionary; of two of one name the last counts (RFC 8941 4.2.2)."""
    found = re.findall(rf"(?:^|,)[ \t]*{name}\b(?:=([^,]*))?", dictionary)
    return found[-1].strip() if found else None


def _bytes(text: str, algorithm: str, size: int) -> bytes:
    """A byte sequence (RFC 8941 3.3.5)."""
    sequence = _BYTE_SEQUENCE.fullmatch(text)
    try:
        value = base64.b64decode(sequence[1], validate=True) if sequence else b""
    except binascii.Error:
        value = b""
    if len(value) != size:
        raise ValueError(f"not `{algorithm}=:base64 of {size} bytes:`")
    return value


def _preference(text: str | None) -> int:
    """How much an algorithm is wanted: 1 to 10, or not."""
    return int(text) if text and re.fullmatch("[1-9]|10", text) else 0


class _OpenFile:
    """An open file that equals every other one with the same identity."""

    def __init__(self, file: FileIO, identity: tuple[int, ...]) -> None:
        self.file, self.identity = file, identity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OpenFile) and other.identity == self.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@lru_cache(maxsize=256)
def _digest(opened: _OpenFile, algorithm: str) -> Digest:
    opened.file.seek(0)
    hashing = Hashing([algorithm])
    while data := opened.file.read(_READ_BYTES):
        hashing.update(data)
    return hashing.digest(algorithm)

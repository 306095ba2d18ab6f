"""Digests of model files on the wire: `Repr-Digest` (RFC 9530) and the entity tag made of the same SHA-256."""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from io import FileIO

REPR_DIGEST = "Repr-Digest"

_SHA256 = re.compile(r"(?:^|,)[ \t]*sha-256\b=?([^,]*)")
_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]*={0,2}):[ \t]*(?:;.*)?")


def repr_digest(sha256: str) -> str:
    """The header's value for a SHA-256 in hexadecimal: `sha-256=:base64:`."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def announced_sha256(headers: Mapping[str, str]) -> str | None:
    """The SHA-256 in hexadecimal that a `Repr-Digest` names; None without one, other algorithms are ignored.

    Raises:
        ValueError: there is one and it cannot be read.
    """
    found = _SHA256.findall(headers.get(REPR_DIGEST, ""))
    if not found:
        return None
    sequence = _BYTE_SEQUENCE.fullmatch(found[-1].rstrip())
    try:
        digest = base64.b64decode(sequence[1], validate=True) if sequence else b""
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("not `sha-256=:base64 of 32 bytes:`")
    return digest.hex()


def etag(sha256: str) -> str:
    """The strong entity tag of a representation, quotes included."""
    return f'"{sha256}"'


def tagged_sha256(entity_tag: str | None) -> str | None:
    """The digest that an entity tag of ours is made of; None for anybody else's."""
    found = re.fullmatch(r'"([0-9a-f]{64})"', entity_tag or "")
    return found and found[1]


def sha256_of(file: FileIO) -> str:
    """Hex SHA-256 of an open file, remembered until the file changes; reads all of it, so not in the loop."""
    stat = os.fstat(file.fileno())
    return _sha256(_OpenFile(file, (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)))


class _OpenFile:
    """An open file that equals every other one with the same identity."""

    def __init__(self, file: FileIO, identity: tuple[int, ...]) -> None:
        self.file, self.identity = file, identity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _OpenFile) and other.identity == self.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@lru_cache(maxsize=256)
def _sha256(opened: _OpenFile) -> str:
    opened.file.seek(0)
    return hashlib.file_digest(opened.file, "sha256").hexdigest()

"""Digests as they are written in headers."""

import hashlib
import os
from pathlib import Path

import pytest

from sbi.digests import (
    CRC32C,
    SHA256,
    Digest,
    announced_digest,
    digest_of,
    digest_of_buffers,
    etag,
    sha256,
    tagged_sha256,
    wanted_algorithm,
)

MODEL = sha256(hashlib.sha256(b"model").hexdigest())
OTHER = sha256(hashlib.sha256(b"other").hexdigest())
CHECK = Digest(CRC32C, bytes.fromhex("e3069283"))
"""Of "123456789", as catalogues of such codes give it."""


def test_a_digest_is_read_as_it_was_written() -> None:
    """As RFC 9530 has it."""
    assert (
        str(sha256(hashlib.sha256(b"").hexdigest()))
        == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    )
    assert str(CHECK) == "crc32c=:4waSgw==:"
    for digest in (MODEL, CHECK):
        assert announced_digest({"Repr-Digest": str(digest)}) == digest


@pytest.mark.parametrize(
    "value",
    [
        f"sha-512=:AAAA:, {MODEL}",
        f"{MODEL},md5=:AAAA:",
        f"{OTHER}, {MODEL}",
        f"{MODEL};note=1",
        f" {MODEL} ",
        f"{CHECK}, {MODEL}",
    ],
)
def test_the_sha256_is_found_among_others(value: str) -> None:
    """RFC 9530: a dictionary of algorithms, of which the last of one name counts (RFC 8941 4.2.2)."""
    assert announced_digest({"Repr-Digest": value}) == MODEL


@pytest.mark.parametrize("value", ["", "sha-512=:AAAA:", "unixsum=1", "x-sha-256=:AAAA:", "crc32=:AAAAAA==:"])
def test_without_one_that_is_known_nothing_is_announced(value: str) -> None:
    """Other algorithms are ignored, and so is a missing header."""
    assert announced_digest({"Repr-Digest": value}) is None
    assert announced_digest({}) is None


@pytest.mark.parametrize(
    "value",
    [
        "sha-256",
        "sha-256=",
        "sha-256=::",
        "sha-256=:AAAA:",
        f"sha-256={MODEL.hex}",
        "crc32c=:AAAA:",
        "crc32c=1",
    ],
)
def test_one_that_cannot_be_read_is_an_error(value: str) -> None:
    """A digest in another notation, or of another length, is never taken for none."""
    with pytest.raises(ValueError, match=value.partition("=")[0]):
        announced_digest({"Repr-Digest": value})


@pytest.mark.parametrize(
    ("wanted", "algorithm"),
    [
        ("", SHA256),
        ("crc32c=1", CRC32C),
        ("crc32c=10, sha-256=1", CRC32C),
        ("crc32c=1, sha-256=1", SHA256),
        ("crc32c=0", SHA256),
        ("crc32c=0, sha-256=0", SHA256),
        ("crc32c=11", SHA256),
        ("crc32c=:x:", SHA256),
        ("md5=10, sha-512=9", SHA256),
    ],
)
def test_whoever_prefers_an_algorithm_gets_it(wanted: str, algorithm: str) -> None:
    """RFC 9530 4: 1 to 10, the more the better; 0 is not wanted at all, and what is no preference is none."""
    assert wanted_algorithm({"Want-Repr-Digest": wanted}) == algorithm


def test_our_entity_tags_are_digests() -> None:
    """A strong tag of 64 hexadecimal digits is a digest; weak and foreign ones are not."""
    assert tagged_sha256(etag(MODEL, 5)) == MODEL
    assert etag(CHECK, 9) == '"e3069283-9"'
    for tag in (None, "", MODEL.hex, f"W/{etag(MODEL, 5)}", '"abc"', etag(MODEL, 5).upper(), etag(CHECK, 9)):
        assert tagged_sha256(tag) is None


def test_a_file_and_the_buffers_it_consists_of_have_one_digest(tmp_path: Path) -> None:
    """Whatever they are split into, empty ones included."""
    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    buffers = [b"1", bytearray(b"2345"), b"", memoryview(b"x6789")[1:]]
    with path.open("rb", buffering=0) as file:
        assert digest_of(file, CRC32C) == digest_of_buffers(buffers, CRC32C) == CHECK
        assert digest_of(file).value == hashlib.sha256(b"123456789").digest()


def test_a_changed_file_has_a_new_digest(tmp_path: Path) -> None:
    """Digests are remembered only as long as the file is the same."""
    path = tmp_path / "file"
    for content in (b"one", b"other"):
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            assert digest_of(file) == digest_of(file) == sha256(hashlib.sha256(content).hexdigest())
    os.utime(path, ns=(1, 1))
    with path.open("rb", buffering=0) as file:
        assert digest_of(file) == OTHER

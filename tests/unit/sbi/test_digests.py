"""Digests as they are written in headers."""

import hashlib
import os
from pathlib import Path

import pytest

from sbi.digests import announced_sha256, etag, repr_digest, sha256_of, tagged_sha256

SHA256 = hashlib.sha256(b"model").hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


def test_a_digest_is_read_as_it_was_written() -> None:
    """What `repr_digest` writes is what `announced_sha256` reads."""
    assert (
        repr_digest(hashlib.sha256(b"").hexdigest())
        == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    )
    assert announced_sha256({"Repr-Digest": repr_digest(SHA256)}) == SHA256


@pytest.mark.parametrize(
    "value",
    [
        f"sha-512=:AAAA:, {repr_digest(SHA256)}",
        f"{repr_digest(SHA256)},md5=:AAAA:",
        f"{repr_digest(OTHER)}, {repr_digest(SHA256)}",
        f"{repr_digest(SHA256)};note=1",
        f" {repr_digest(SHA256)} ",
    ],
)
def test_the_sha256_is_found_among_others(value: str) -> None:
    """RFC 9530: a dictionary of algorithms, of which the last of one name counts (RFC 8941 4.2.2)."""
    assert announced_sha256({"Repr-Digest": value}) == SHA256


@pytest.mark.parametrize("value", ["", "sha-512=:AAAA:", "unixsum=1", "x-sha-256=:AAAA:"])
def test_without_a_sha256_nothing_is_announced(value: str) -> None:
    """Other algorithms are ignored, and so is a missing header."""
    assert announced_sha256({"Repr-Digest": value}) is None
    assert announced_sha256({}) is None


@pytest.mark.parametrize(
    "value", ["sha-256", "sha-256=", "sha-256=::", "sha-256=:AAAA:", f"sha-256={SHA256}"]
)
def test_a_sha256_that_cannot_be_read_is_an_error(value: str) -> None:
    """A digest in another notation, or of another length, is never taken for none."""
    with pytest.raises(ValueError, match="sha-256"):
        announced_sha256({"Repr-Digest": value})


def test_our_entity_tags_are_digests() -> None:
    """A strong tag of 64 hexadecimal digits is a digest; weak and foreign ones are not."""
    assert tagged_sha256(etag(SHA256)) == SHA256
    for tag in (None, "", SHA256, f"W/{etag(SHA256)}", '"abc"', etag(SHA256.upper())):
        assert tagged_sha256(tag) is None


def test_a_changed_file_has_a_new_digest(tmp_path: Path) -> None:
    """Digests are remembered only as long as the file is the same."""
    path = tmp_path / "file"
    for content in (b"one", b"other"):
        path.write_bytes(content)
        with path.open("rb", buffering=0) as file:
            assert sha256_of(file) == sha256_of(file) == hashlib.sha256(content).hexdigest()
    os.utime(path, ns=(1, 1))
    with path.open("rb", buffering=0) as file:
        assert sha256_of(file) == hashlib.sha256(b"other").hexdigest()

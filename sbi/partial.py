"""The file that a download has brought so far, and which version of the other side's file it is a part of."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import hdrs

from sbi.digests import announced_sha256, tagged_sha256
from sbi.patience import CorruptTransfer

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Version:
    """What an answer says of the whole file.

    Attributes:
        etag: its strong entity tag, quotes included; None: it cannot be taken up again.
        size: in bytes, if known.
        sha256: in hexadecimal, if announced by `Repr-Digest` or an entity tag of ours.
    """

    etag: str | None = None
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Version":
        """The version that an answer (200 or 206) brings.

        Raises:
            ValueError: its headers cannot be read, or it has a content coding.
        """
        if headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            raise ValueError("it has a content coding")
        found = _CONTENT_RANGE.fullmatch(headers.get(hdrs.CONTENT_RANGE, ""))
        size = found[3] if found else headers.get(hdrs.CONTENT_LENGTH)
        tag = headers.get(hdrs.ETAG, "")
        strong = tag if tag.startswith('"') else None
        sha256 = announced_sha256(headers) or tagged_sha256(strong)
        return cls(strong, None if size is None else int(size), sha256)


class Partial:
    """`<name>.part` and beside it, in `<name>.part.json`, its version.

    Attributes:
        path: of the part.
        size: bytes in it.
        version: of the whole.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f"{target.name}.part")
        self._about = target.with_name(f"{target.name}.part.json")
        self.size = 0
        self.version = Version()

    @classmethod
    def of(cls, target: Path) -> "Partial":
        """What an earlier download to `target` has left; empty if it cannot be used."""
        partial = cls(target)
        try:
            partial.version = Version(**json.loads(partial._about.read_bytes()))
            partial.size = partial.path.stat().st_size
        except (OSError, ValueError, TypeError):
            partial.drop()
        return partial

    @property
    def start(self) -> int:
        """From where to go on; the last byte is asked for once more when all are here."""
        if self.version.etag is None:
            return 0
        return max(0, self.size if self.version.size is None else min(self.size, self.version.size - 1))

    def conditions(self) -> dict[str, str]:
        """The headers that ask for the rest of this version, or for the whole of a newer one."""
        if not self.start or self.version.etag is None:
            return {}
        return {hdrs.RANGE: f"bytes={self.start}-", hdrs.IF_RANGE: self.version.etag}

    def continued_by(self, version: Version, headers: Mapping[str, str]) -> bool:
        """Whether an answer with status 206 is the rest of this file."""
        begins = headers.get(hdrs.CONTENT_RANGE, "").startswith(f"bytes {self.start}-")
        return begins and version.etag == self.version.etag and self.start > 0

    def begin(self, version: Version, start: int) -> None:
        """Note which version is written from `start` on."""
        known = self.version.sha256 if start else None
        self.version = Version(version.etag, version.size, version.sha256 or known)
        self._about.write_text(json.dumps(asdict(self.version)))

    def drop(self) -> None:
        """Forget and remove what is here."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
        self.size, self.version = 0, Version()

    def complete(self, sha256: str) -> None:
        """Make it the target; `sha256` is the digest of what came.

        Raises:
            CorruptTransfer: another one was announced; everything is removed.
        """
        if self.version.sha256 not in (None, sha256):
            self.drop()
            raise CorruptTransfer("the file that came has another digest than announced")
        os.replace(self.path, self._target)
        self._about.unlink(missing_ok=True)

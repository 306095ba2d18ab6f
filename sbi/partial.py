"""What a download has brought so far, in a file or in memory, and which version of the other side's file it is of."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp import hdrs

from sbi.digests import REPR_DIGEST, Digest, Hashing, announced_digest, tagged_sha256
from sbi.hashed_file import Block, appending
from sbi.patience import CorruptTransfer
from sbi.undisturbed import undisturbed

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Version:
    """What an answer says of the whole file.

    Attributes:
        etag: its strong entity tag, quotes included; None: it cannot be taken up again.
        size: in bytes, if known.
        digest: if announced by `Repr-Digest` or an entity tag of ours.
    """

    etag: str | None = None
    size: int | None = None
    digest: Digest | None = None

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
        digest = announced_digest(headers) or tagged_sha256(strong)
        return cls(strong, None if size is None else int(size), digest)

    @property
    def algorithms(self) -> list[str]:
        """By which its bytes can be checked."""
        return [self.digest.algorithm] if self.digest else []


class Sink(Protocol):
    """Takes what comes; `hashing` is of all of it."""

    hashing: Hashing

    @property
    def size(self) -> int:
        """Bytes taken so far."""

    async def append(self, block: Block) -> None:
        """Take the next block."""

    async def written(self) -> None:
        """Return when everything is where it belongs."""


class Partial(ABC):
    """What is here of a file.

    Attributes:
        size: bytes that are here.
        version: of the whole.
    """

    def __init__(self) -> None:
        self.size = 0
        self.version = Version()

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

    async def begin(self, version: Version, start: int) -> None:
        """Note which version is written from `start` on."""
        known = self.version.digest if start else None
        self.version = Version(version.etag, version.size, version.digest or known)

    @abstractmethod
    def writing(self, start: int) -> AbstractAsyncContextManager[Sink]:
        """Where what comes from `start` on belongs."""

    def drop(self) -> None:
        """Forget what is here."""
        self.size, self.version = 0, Version()

    async def complete(self, hashing: Hashing) -> None:
        """Accept what came.

        Raises:
            CorruptTransfer: another digest was announced; everything is dropped.
        """
        digest = self.version.digest
        if digest and hashing.digest(digest.algorithm) != digest:
            self.drop()
            raise CorruptTransfer("the file that came has another digest than announced")


class PartialFile(Partial):
    """`<name>.part` and beside it, in `<name>.part.json`, its version."""

    def __init__(self, target: Path) -> None:
        super().__init__()
        self._target = target
        self._path = target.with_name(f"{target.name}.part")
        self._about = target.with_name(f"{target.name}.part.json")

    @classmethod
    def of(cls, target: Path) -> "PartialFile":
        """What an earlier download to `target` has left; empty if it cannot be used."""
        partial = cls(target)
        try:
            about = json.loads(partial._about.read_bytes())
            digest = announced_digest({REPR_DIGEST: about["digest"]})
            partial.version = Version(about["etag"], about["size"], digest)
            partial.size = partial._path.stat().st_size
        except (OSError, ValueError, TypeError, KeyError):
            partial.drop()
        return partial

    async def begin(self, version: Version, start: int) -> None:
        """Note which version is written from `start` on, for whoever goes on after this process."""
        await super().begin(version, start)
        now = self.version
        about = {"etag": now.etag, "size": now.size, "digest": str(now.digest) if now.digest else ""}
        await undisturbed(self._about.write_text, json.dumps(about))

    def writing(self, start: int) -> AbstractAsyncContextManager[Sink]:
        """The file, cut to its first `start` bytes."""
        return appending(self._path, start, self.version.algorithms)

    def drop(self) -> None:
        """Forget and remove what is here."""
        self._path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
        super().drop()

    async def complete(self, hashing: Hashing) -> None:
        """Make it the target."""
        await super().complete(hashing)
        await undisturbed(self._replace)

    def _replace(self) -> None:
        os.replace(self._path, self._target)
        self._about.unlink(missing_ok=True)


class PartialBuffer(Partial):
    """In memory.

    Attributes:
        content: what is here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.content = bytearray()

    @asynccontextmanager
    async def writing(self, start: int) -> AsyncIterator[Sink]:
        """The buffer, cut to its first `start` bytes."""
        del self.content[start:]
        yield _Appending(self.content, Hashing(self.version.algorithms))

    def drop(self) -> None:
        """Forget what is here."""
        self.content.clear()
        super().drop()


class _Appending:
    """A buffer that grows; its bytes stay where they are, for the system moves their pages."""

    def __init__(self, content: bytearray, hashing: Hashing) -> None:
        self._content = content
        self.hashing = hashing
        self.hashing.update(content)

    @property
    def size(self) -> int:
        return len(self._content)

    async def append(self, block: Block) -> None:
        for piece in block.pieces:
            self._content += piece
            self.hashing.update(piece)

    async def written(self) -> None:
        pass

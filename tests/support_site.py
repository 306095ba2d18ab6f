"""A server that keeps one model file, and what tests of transfers to and from it share."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from sbi.digests import Digest, sha256
from sbi.errors import NotFound
from sbi.serve import send, send_file
from sbi.spool import Received, Spool
from sbi.transfer import Patience

MIB = 1 << 20
SIZE = 6 * MIB + 4_321
LARGE = 30 * MIB
UNDER_WAY = 4 * MIB
"""More than a server has read ahead of the disk; lost when a connection breaks."""
MAX = 300 * MIB
SOON = Patience(attempts=3, first=0.01, stall=5)


@dataclass
class Site:
    """A server that keeps one file: PUT spools it, GET sends it."""

    spool: Spool
    stored: Path
    received: list[Received] = field(default_factory=list)
    port: int = 0
    busy: int = 0

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self.port}/model"

    async def put(self, request: web.Request) -> web.Response:
        """As a handler of the server does it."""
        self.busy += 1
        try:
            received = await self.spool.receive("key", request)
        finally:
            self.busy -= 1
        if received is not None:
            self.received.append(received)
            self.spool.take("key").rename(self.stored)
        return web.Response(status=204)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The file, and for HEAD the offset of an unfinished upload too."""
        if request.method == "HEAD" and not self.stored.exists():
            return web.Response(headers={"Upload-Offset": str(self.spool.offset("key"))})
        self.busy += 1
        try:
            return await send_file(request, self.stored)
        finally:
            self.busy -= 1

    async def get_lost(self, request: web.Request) -> web.StreamResponse:
        """A file whose bytes disappear while they are sent."""

        async def source(start: int, stop: int) -> AsyncIterator[bytes]:
            yield bytes(MIB)
            raise NotFound("the bytes are no longer stored")

        return await send(request, source, 2 * MIB, sha256("0" * 64))


def sha256_of(path: Path) -> Digest:
    """As the standard library finds it out."""
    with path.open("rb") as file:
        return sha256(hashlib.file_digest(file, "sha256").hexdigest())


def content_of(path: Path) -> bytes:
    """All of a file."""
    return path.read_bytes()

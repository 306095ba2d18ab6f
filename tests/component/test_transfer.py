"""Model files over real connections that break, lie and dawdle."""

import asyncio
import hashlib
import io
import os
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sbi import serve
from sbi.digests import repr_digest
from sbi.errors import NotFound
from sbi.problems import problem_middleware
from sbi.serve import send, send_file
from sbi.spool import Pace, Received, Spool
from sbi.transfer import (
    CorruptTransfer,
    Patience,
    TransferError,
    TransferRefused,
    TransferTooLarge,
    download,
    upload,
)
from tests.support import eventually
from tests.support_proxy import Fault, Proxy, proxy_to

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

        return await send(request, source, 2 * MIB, "0" * 64)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A running server with an empty spool."""
    site = Site(Spool(tmp_path / "spool", MAX, Pace(1_000, 0.3)), tmp_path / "stored")
    app = web.Application(middlewares=[problem_middleware])
    app.router.add_put("/model", site.put)
    app.router.add_get("/model", site.get)
    app.router.add_get("/lost", site.get_lost)
    runner = web.AppRunner(app, shutdown_timeout=0)  # aiohttp's test server cancels handlers, servers do not
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


@pytest.fixture
async def proxy(site: Site) -> AsyncIterator[Proxy]:
    """A network in front of the server."""
    async with proxy_to(site.port) as proxy:
        yield proxy


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file to move."""
    path = tmp_path / "model"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that is much more than what can be under way."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


class TestUpload:
    """Up: PUT, and on from Upload-Offset."""

    async def test_a_file_arrives(self, site: Site, session: aiohttp.ClientSession, model: Path) -> None:
        """A whole upload gives the receiver the file, its size and its digest."""
        seen: list[tuple[int, int | None]] = []
        answer = await upload(session, site.url, model, progress=lambda *at: seen.append(at), patience=SOON)
        assert answer.status == 204
        assert _bytes(site.stored) == _bytes(model)
        assert (site.received[0].size, site.received[0].sha256) == (SIZE, _sha256(model))
        assert seen[-1] == (SIZE, SIZE)

    async def test_an_empty_file_arrives(
        self, site: Site, session: aiohttp.ClientSession, model: Path
    ) -> None:
        """No bytes are an upload too."""
        os.truncate(model, 0)
        assert (await upload(session, site.url, model, patience=SOON)).status == 204
        assert site.received[0].size == 0

    async def test_a_cut_upload_goes_on_where_it_stopped(
        self, site: Site, proxy: Proxy, session: aiohttp.ClientSession, large: Path
    ) -> None:
        """After two cuts all connections together carried the file once, and what was under way twice."""
        proxy.up += [Fault(cut=12 * MIB), Fault(), Fault(cut=12 * MIB)]
        # Asked before the server has noticed the cut it says less than it will have, and refuses the rest.
        later = Patience(attempts=3, first=0.3, stall=5)
        answer = await upload(session, f"{proxy.url}/model", large, patience=later)
        assert answer.status == 204
        assert _bytes(site.stored) == _bytes(large)
        assert sum(sent > MIB for sent in proxy.sent_up) >= 3
        assert sum(proxy.sent_up) < LARGE + 3 * UNDER_WAY

    async def test_a_cancelled_upload_leaves_no_file_open(
        self, site: Site, session: aiohttp.ClientSession, model: Path
    ) -> None:
        """Wherever a caller gives up, its file is closed; else the interpreter would warn, and fail this test."""
        for turns in range(30):
            sending = asyncio.create_task(upload(session, site.url, model))
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

    async def test_an_upload_goes_on_after_the_server_restarted(
        self, site: Site, proxy: Proxy, session: aiohttp.ClientSession, large: Path, tmp_path: Path
    ) -> None:
        """What came is on disk: another process takes it up at the same offset."""
        proxy.up.append(Fault(cut=12 * MIB))
        with pytest.raises(TransferError, match="given up"):
            await upload(session, f"{proxy.url}/model", large, patience=Patience(attempts=1))
        await eventually(lambda: not site.busy)
        site.spool = Spool(tmp_path / "spool", MAX)
        came = site.spool.offset("key")
        assert came > 12 * MIB - UNDER_WAY
        await _put(session, site.url, _bytes(large)[came:], _range(came, LARGE), _sha256(large))
        assert _bytes(site.stored) == _bytes(large)

    async def test_parts_arrive_one_by_one(
        self, site: Site, session: aiohttp.ClientSession, model: Path
    ) -> None:
        """Parts that each continue the last one make the whole; only the last one completes it."""
        data = _bytes(model)
        for start in range(0, SIZE, 2 * MIB):
            assert site.received == []
            part = data[start : start + 2 * MIB]
            status, _, _ = await _put(
                session, site.url, part, f"bytes {start}-{start + len(part) - 1}/{SIZE}", _sha256(model)
            )
            assert status == 204
        assert _bytes(site.stored) == data

    async def test_a_flipped_bit_is_refused_and_dropped(
        self, site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path
    ) -> None:
        """Bytes with another digest: 400 that names the header, nothing kept; the next attempt succeeds."""
        proxy.up.append(Fault(flip=5 * MIB))
        answer = await upload(session, f"{proxy.url}/model", model, patience=SOON)
        assert answer.status == 400
        assert b"Repr-Digest" in answer.body
        assert site.received == []
        assert site.spool.offset("key") == 0
        assert (await upload(session, site.url, model, patience=SOON)).status == 204

    async def test_a_wrong_offset_is_answered_with_the_right_one(
        self, site: Site, session: aiohttp.ClientSession, model: Path
    ) -> None:
        """A part that leaves a gap or overlaps gets 416 with Upload-Offset and changes nothing."""
        await _put(session, site.url, b"x" * 100, "bytes 0-99/1000")
        for start in (0, 50, 101):
            status, headers, _ = await _put(session, site.url, b"y" * 10, f"bytes {start}-{start + 9}/1000")
            assert (status, headers["Upload-Offset"]) == (416, "100")
        assert site.spool.offset("key") == 100

    @pytest.mark.parametrize(
        "content_range",
        [
            "bytes 0-9/*",
            "bytes */1000",
            "bytes 9-0/1000",
            "bytes 0-10/10",
            "items 0-9/1000",
            "bytes 0-19/1000",
        ],
    )
    async def test_a_content_range_that_cannot_be_is_refused(
        self, site: Site, session: aiohttp.ClientSession, content_range: str
    ) -> None:
        """Ranges out of order, without a total or of another length than the body: 400 naming the header."""
        status, _, text = await _put(session, site.url, b"x" * 10, content_range)
        assert status == 400
        assert "Content-Range" in text

    @pytest.mark.parametrize("digest", ["sha-256=abc", "sha-256=:abc:", "sha-256=:!:"])
    async def test_a_digest_that_cannot_be_read_is_refused_before_the_body(
        self, site: Site, session: aiohttp.ClientSession, digest: str
    ) -> None:
        """A digest that is none is not ignored: the sender believes that it protects the file."""
        async with session.put(site.url, data=b"x", headers={"Repr-Digest": digest}) as response:
            assert response.status == 400
            assert "Repr-Digest" in await response.text()
        assert site.spool.offset("key") == 0

    async def test_too_much_is_refused_when_announced(
        self, site: Site, session: aiohttp.ClientSession
    ) -> None:
        """A declared length over the limit gets 413 before a byte of it is read."""
        status, _, _ = await _put(session, site.url, b"x", f"bytes 0-0/{MAX + 1}")
        assert status == 413
        assert await _raw(site, f"Content-Length: {MAX + 1}\r\n\r\n") == b"HTTP/1.1 413"

    async def test_too_much_is_refused_when_it_comes_unannounced(
        self, site: Site, session: aiohttp.ClientSession
    ) -> None:
        """Without a declared length the limit holds as well."""
        site.spool = Spool(site.stored.parent / "small", 3 * MIB)
        status, _, _ = await _put(session, site.url, _chunked(b"x" * MIB, 5))
        assert status == 413
        assert site.spool.offset("key") <= 3 * MIB

    @pytest.mark.parametrize(("count", "reason"), [(3, "more than"), (1, "only")])
    async def test_a_body_is_as_long_as_it_says(
        self, site: Site, session: aiohttp.ClientSession, count: int, reason: str
    ) -> None:
        """A chunked body longer or shorter than its Content-Range is refused."""
        status, _, text = await _put(session, site.url, _chunked(b"x" * 10, count), "bytes 0-19/20")
        assert status == 400
        assert reason in text
        assert site.received == []

    async def test_a_coded_body_is_refused(self, site: Site, session: aiohttp.ClientSession) -> None:
        """A compressed body could grow without end, and its offsets would mean nothing."""
        async with session.put(site.url, data=b"x" * 1000, compress="deflate") as response:
            assert response.status == 415

    async def test_a_sender_that_dawdles_is_sent_away_and_may_go_on(
        self, site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path
    ) -> None:
        """A body that stops coming ends with 408 after the pace's seconds; what came is kept."""
        proxy.up.append(Fault(hold=2 * MIB))
        started = time.monotonic()
        answer = await upload(session, f"{proxy.url}/model", model, patience=SOON)
        assert answer.status == 204
        assert 0.25 < time.monotonic() - started < 3
        assert sum(proxy.sent_up) < SIZE + 2 * MIB
        assert _bytes(site.stored) == _bytes(model)

    async def test_a_newer_upload_takes_the_older_ones_place(
        self, site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
    ) -> None:
        """A client that comes back while its dead connection still looks alive is served at once."""
        site.spool = Spool(tmp_path / "spool", MAX, Pace(1, 60))
        proxy.up.append(Fault(hold=2 * MIB))
        dead = asyncio.create_task(
            upload(session, f"{proxy.url}/model", model, patience=Patience(attempts=1, stall=60))
        )
        await eventually(lambda: proxy.sent_up and proxy.sent_up[0] > MIB)
        started = time.monotonic()
        assert (await upload(session, site.url, model, patience=SOON)).status == 204
        assert time.monotonic() - started < 3
        assert _bytes(site.stored) == _bytes(model)
        with pytest.raises(TransferError):
            await dead

    async def test_parallel_uploads_to_one_key_never_mix(
        self, site: Site, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """Several senders at once: whatever is stored in the end is whole and one of theirs."""
        files = [tmp_path / f"model{number}" for number in range(4)]
        for file in files:
            file.write_bytes(os.urandom(3 * MIB))
        answers = await asyncio.gather(
            *(upload(session, site.url, file, patience=SOON) for file in files), return_exceptions=True
        )
        assert any(getattr(answer, "status", 0) == 204 for answer in answers)
        assert _sha256(site.stored) in {_sha256(file) for file in files}
        assert {received.sha256 for received in site.received} <= {_sha256(file) for file in files}

    async def test_what_nobody_wants_is_swept(
        self, site: Site, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """Unfinished uploads go when they are old enough, not before; keys never become paths."""
        await _put(session, site.url, b"x" * 100, "bytes 0-99/1000")
        assert await site.spool.sweep(60) == 0
        assert site.spool.offset("key") == 100
        assert site.spool.offset("../../key") == 0
        assert await site.spool.sweep(-1) == 1
        assert site.spool.offset("key") == 0


class TestDownload:
    """Down: GET, and on with Range."""

    @pytest.fixture(autouse=True)
    def _stored(self, site: Site, model: Path) -> None:
        site.stored.write_bytes(_bytes(model))

    async def test_a_file_arrives(
        self, site: Site, session: aiohttp.ClientSession, model: Path, tmp_path: Path
    ) -> None:
        """The file appears whole, and nothing else stays beside it."""
        seen: list[tuple[int, int | None]] = []
        got = await download(session, site.url, tmp_path / "got", progress=lambda *at: seen.append(at))
        assert (got.size, got.sha256) == (SIZE, _sha256(model))
        assert got.headers["Repr-Digest"] == repr_digest(got.sha256)
        assert _bytes(tmp_path / "got") == _bytes(model)
        assert _names(tmp_path) == ["got", "model", "stored"]
        assert seen[-1] == (SIZE, SIZE)

    async def test_a_cut_download_goes_on_where_it_stopped(
        self, proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
    ) -> None:
        """After two cuts all connections together carried the file about once."""
        proxy.down += [Fault(cut=2 * MIB), Fault(cut=2 * MIB)]
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
        assert _bytes(tmp_path / "got") == _bytes(model)
        assert len(proxy.sent_down) == 3
        assert sum(proxy.sent_down) < SIZE + MIB // 2

    async def test_a_download_goes_on_after_this_process_restarted(
        self, proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
    ) -> None:
        """What came stays beside the target, and a later call asks for the rest only."""
        proxy.down.append(Fault(cut=4 * MIB))
        with pytest.raises(TransferError, match="given up"):
            await download(session, f"{proxy.url}/model", tmp_path / "got", patience=Patience(attempts=1))
        assert not (tmp_path / "got").exists()
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
        assert _bytes(tmp_path / "got") == _bytes(model)
        assert sum(proxy.sent_down) < SIZE + MIB // 2

    async def test_a_download_that_was_complete_but_not_yet_checked(
        self, proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
    ) -> None:
        """When all bytes are here one of them is asked for again, not all."""
        proxy.down.append(Fault(cut=4 * MIB))
        with pytest.raises(TransferError):
            await download(session, f"{proxy.url}/model", tmp_path / "got", patience=Patience(attempts=1))
        os.replace(model, tmp_path / "got.part")
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
        assert proxy.sent_down[1] < 2_000

    async def test_a_file_that_changed_meanwhile_is_got_anew(
        self, site: Site, proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """Halves of two versions are never put together."""
        proxy.down.append(Fault(cut=3 * MIB))
        with pytest.raises(TransferError):
            await download(session, f"{proxy.url}/model", tmp_path / "got", patience=Patience(attempts=1))
        site.stored.unlink()
        site.stored.write_bytes(os.urandom(SIZE))
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
        assert _sha256(tmp_path / "got") == _sha256(site.stored)

    async def test_a_flipped_bit_is_refused_and_removed(
        self, proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """A file with another digest than announced does not appear, nor does its part stay."""
        proxy.down.append(Fault(flip=5 * MIB))
        with pytest.raises(CorruptTransfer, match="digest"):
            await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
        assert _names(tmp_path) == ["model", "stored"]

    async def test_too_much_is_not_taken(
        self, site: Site, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """A file over the limit is refused by its announced size."""
        with pytest.raises(TransferTooLarge, match=str(SIZE)):
            await download(session, site.url, tmp_path / "got", max_bytes=SIZE - 1)

    async def test_a_refusal_is_not_repeated(
        self, proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """404 will not change: one request, and an error that has the status and no address."""
        with pytest.raises(TransferRefused) as refused:
            await download(session, f"{proxy.url}/nothing", tmp_path / "got", patience=SOON)
        assert refused.value.status == 404
        assert "127.0.0.1" not in str(refused.value)
        assert len(proxy.sent_up) == 1

    async def test_a_silent_server_is_given_up(
        self, proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        """A connection over which nothing comes counts as broken, a bounded number of times."""
        proxy.down += [Fault(hold=0)] * 3
        patience = Patience(attempts=3, first=0.01, stall=0.2)
        with pytest.raises(TransferError, match="given up"):
            await download(session, f"{proxy.url}/model", tmp_path / "got", patience=patience)
        assert len(proxy.sent_up) == 3

    async def test_bytes_that_get_lost_end_the_connection(
        self, site: Site, session: aiohttp.ClientSession
    ) -> None:
        """An error in the middle breaks the answer off; it is never written where the file goes on."""
        async with session.get(site.url.replace("model", "lost")) as response:
            assert (response.status, response.content_length) == (200, 2 * MIB)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def test_a_receiver_that_takes_nothing_is_given_up(
        self, site: Site, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever asks for a file and does not read it holds nothing for longer than the time for a piece."""
        monkeypatch.setattr(serve, "STALLED_SECONDS", 0.2)
        os.replace(large, site.stored)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=1024)
        writer.write(b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: site.busy)
        await eventually(lambda: not site.busy)
        writer.transport.abort()

    @pytest.mark.parametrize(
        ("header", "status", "expected"),
        [
            ("bytes=0-0", 206, lambda data: data[:1]),
            ("bytes=5-", 206, lambda data: data[5:]),
            ("bytes=-7", 206, lambda data: data[-7:]),
            (f"bytes=10-{SIZE + 99}", 206, lambda data: data[10:]),
            ("bytes=0-1,4-5", 200, lambda data: data),
            ("bytes=5-3", 200, lambda data: data),
            ("lines=1-2", 200, lambda data: data),
        ],
    )
    async def test_ranges(
        self,
        site: Site,
        session: aiohttp.ClientSession,
        model: Path,
        header: str,
        status: int,
        expected: Callable[[bytes], bytes],
    ) -> None:
        """One range is served; several, and what is no range, get the whole (RFC 9110 14.2)."""
        async with session.get(site.url, headers={"Range": header}) as response:
            assert response.status == status
            assert await response.read() == expected(_bytes(model))

    async def test_conditions(self, site: Site, session: aiohttp.ClientSession, model: Path) -> None:
        """304 for the version at hand, 416 past the end, the whole when If-Range names another version."""
        tag = f'"{_sha256(model)}"'
        async with session.get(site.url, headers={"If-None-Match": f'"x", {tag}'}) as response:
            assert (response.status, response.headers["ETag"]) == (304, tag)
        async with session.get(site.url, headers={"Range": f"bytes={SIZE}-"}) as response:
            assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
        async with session.get(site.url, headers={"Range": "bytes=1-1", "If-Range": '"x"'}) as response:
            assert (response.status, response.content_length) == (200, SIZE)
        async with session.head(site.url) as response:
            assert (response.status, response.content_length) == (200, SIZE)
            assert response.headers["Repr-Digest"] == repr_digest(_sha256(model))


async def test_memory_does_not_grow_with_the_file(
    site: Site, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Moving 200 MiB up and down takes, on both sides together, a few blocks of memory."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MIB))
    tracemalloc.start()
    try:
        assert (await upload(session, site.url, big)).status == 204
        await download(session, site.url, tmp_path / "got")
        assert tracemalloc.get_traced_memory()[1] < 24 * MIB
    finally:
        tracemalloc.stop()
    assert _sha256(tmp_path / "got") == _sha256(big)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir() if entry.name != "spool")


def _range(start: int, total: int) -> str:
    return f"bytes {start}-{total - 1}/{total}"


async def _put(
    session: aiohttp.ClientSession, url: str, data: object, content_range: str = "", sha256: str = ""
) -> tuple[int, dict[str, str], str]:
    headers = {"Content-Range": content_range} if content_range else {}
    if sha256:
        headers["Repr-Digest"] = repr_digest(sha256)
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    async with session.put(url, data=body, headers=headers) as response:
        return response.status, dict(response.headers), await response.text()


async def _raw(site: Site, headers: str) -> bytes:
    """The first bytes of the answer to a PUT of which only the headers are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"PUT /model HTTP/1.1\r\nHost: x\r\n{headers}".encode())
    answer = await reader.readexactly(12)
    writer.close()
    await writer.wait_closed()
    return answer


async def _chunked(data: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield data

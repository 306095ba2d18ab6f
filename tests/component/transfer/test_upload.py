"""Up: PUT, and on from Upload-Offset, over real connections that break, lie and dawdle."""

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sbi.digests import SHA256
from sbi.spool import Pace, Spool
from sbi.transfer import Patience, TransferError, upload
from tests.support import eventually
from tests.support_proxy import Fault, Proxy
from tests.support_site import LARGE, MAX, MIB, SIZE, SOON, UNDER_WAY, Site, content_of, sha256_of


async def test_a_file_arrives(site: Site, session: aiohttp.ClientSession, model: Path) -> None:
    """A whole upload gives the receiver the file, its size and its digest."""
    seen: list[tuple[int, int | None]] = []
    answer = await upload(session, site.url, model, progress=lambda *at: seen.append(at), patience=SOON)
    assert answer.status == 204
    assert content_of(site.stored) == content_of(model)
    assert (site.received[0].size, site.received[0].hashing.digest(SHA256)) == (SIZE, sha256_of(model))
    assert seen[-1] == (SIZE, SIZE)


async def test_an_empty_file_arrives(site: Site, session: aiohttp.ClientSession, model: Path) -> None:
    """No bytes are an upload too."""
    os.truncate(model, 0)
    assert (await upload(session, site.url, model, patience=SOON)).status == 204
    assert site.received[0].size == 0


async def test_a_cut_upload_goes_on_where_it_stopped(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, large: Path
) -> None:
    """After two cuts all connections together carried the file once, and what was under way twice."""
    proxy.up += [Fault(cut=12 * MIB), Fault(), Fault(cut=12 * MIB)]
    # Asked before the server has noticed the cut it says less than it will have, and refuses the rest.
    later = Patience(attempts=3, first=0.3, stall=5)
    answer = await upload(session, f"{proxy.url}/model", large, patience=later)
    assert answer.status == 204
    assert content_of(site.stored) == content_of(large)
    assert sum(sent > MIB for sent in proxy.sent_up) >= 3
    assert sum(proxy.sent_up) < LARGE + 3 * UNDER_WAY


async def test_a_cancelled_upload_leaves_no_file_open(
    site: Site, session: aiohttp.ClientSession, model: Path
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
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, large: Path, tmp_path: Path
) -> None:
    """What came is on disk: another process takes it up at the same offset."""
    proxy.up.append(Fault(cut=12 * MIB))
    with pytest.raises(TransferError, match="given up"):
        await upload(session, f"{proxy.url}/model", large, patience=Patience(attempts=1))
    await eventually(lambda: not site.busy)
    site.spool = Spool(tmp_path / "spool", MAX)
    came = site.spool.offset("key")
    assert came > 12 * MIB - UNDER_WAY
    await _put(session, site.url, content_of(large)[came:], _range(came, LARGE), sha256_of(large))
    assert content_of(site.stored) == content_of(large)


async def test_parts_arrive_one_by_one(site: Site, session: aiohttp.ClientSession, model: Path) -> None:
    """Parts that each continue the last one make the whole; only the last one completes it."""
    data = content_of(model)
    for start in range(0, SIZE, 2 * MIB):
        assert site.received == []
        part = data[start : start + 2 * MIB]
        status, _, _ = await _put(
            session, site.url, part, f"bytes {start}-{start + len(part) - 1}/{SIZE}", sha256_of(model)
        )
        assert status == 204
    assert content_of(site.stored) == data


async def test_a_flipped_bit_is_refused_and_dropped(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path
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
    site: Site, session: aiohttp.ClientSession, model: Path
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
    site: Site, session: aiohttp.ClientSession, content_range: str
) -> None:
    """Ranges out of order, without a total or of another length than the body: 400 naming the header."""
    status, _, text = await _put(session, site.url, b"x" * 10, content_range)
    assert status == 400
    assert "Content-Range" in text


@pytest.mark.parametrize("digest", ["sha-256=abc", "sha-256=:abc:", "sha-256=:!:"])
async def test_a_digest_that_cannot_be_read_is_refused_before_the_body(
    site: Site, session: aiohttp.ClientSession, digest: str
) -> None:
    """A digest that is none is not ignored: the sender believes that it protects the file."""
    async with session.put(site.url, data=b"x", headers={"Repr-Digest": digest}) as response:
        assert response.status == 400
        assert "Repr-Digest" in await response.text()
    assert site.spool.offset("key") == 0


async def test_too_much_is_refused_when_announced(site: Site, session: aiohttp.ClientSession) -> None:
    """A declared length over the limit gets 413 before a byte of it is read."""
    status, _, _ = await _put(session, site.url, b"x", f"bytes 0-0/{MAX + 1}")
    assert status == 413
    assert await _raw(site, f"Content-Length: {MAX + 1}\r\n\r\n") == b"HTTP/1.1 413"


async def test_too_much_is_refused_when_it_comes_unannounced(
    site: Site, session: aiohttp.ClientSession
) -> None:
    """Without a declared length the limit holds as well."""
    site.spool = Spool(site.stored.parent / "small", 3 * MIB)
    status, _, _ = await _put(session, site.url, _chunked(b"x" * MIB, 5))
    assert status == 413
    assert site.spool.offset("key") <= 3 * MIB


@pytest.mark.parametrize(("count", "reason"), [(3, "more than"), (1, "only")])
async def test_a_body_is_as_long_as_it_says(
    site: Site, session: aiohttp.ClientSession, count: int, reason: str
) -> None:
    """A chunked body longer or shorter than its Content-Range is refused."""
    status, _, text = await _put(session, site.url, _chunked(b"x" * 10, count), "bytes 0-19/20")
    assert status == 400
    assert reason in text
    assert site.received == []


async def test_a_coded_body_is_refused(site: Site, session: aiohttp.ClientSession) -> None:
    """A compressed body could grow without end, and its offsets would mean nothing."""
    async with session.put(site.url, data=b"x" * 1000, compress="deflate") as response:
        assert response.status == 415


async def test_a_sender_that_dawdles_is_sent_away_and_may_go_on(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path
) -> None:
    """A body that stops coming ends with 408 after the pace's seconds; what came is kept."""
    proxy.up.append(Fault(hold=2 * MIB))
    started = time.monotonic()
    answer = await upload(session, f"{proxy.url}/model", model, patience=SOON)
    assert answer.status == 204
    assert 0.25 < time.monotonic() - started < 3
    assert sum(proxy.sent_up) < SIZE + 2 * MIB
    assert content_of(site.stored) == content_of(model)


async def test_a_newer_upload_takes_the_older_ones_place(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
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
    assert content_of(site.stored) == content_of(model)
    with pytest.raises(TransferError):
        await dead


async def test_parallel_uploads_to_one_key_never_mix(
    site: Site, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Several senders at once: whatever is stored in the end is whole and one of theirs."""
    files = [tmp_path / f"model{number}" for number in range(4)]
    for file in files:
        file.write_bytes(os.urandom(3 * MIB))
    answers = await asyncio.gather(
        *(upload(session, site.url, file, patience=SOON) for file in files), return_exceptions=True
    )
    assert any(getattr(answer, "status", 0) == 204 for answer in answers)
    assert sha256_of(site.stored) in {sha256_of(file) for file in files}
    assert {received.hashing.digest(SHA256) for received in site.received} <= {
        sha256_of(file) for file in files
    }


async def test_what_nobody_wants_is_swept(site: Site, session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Unfinished uploads go when they are old enough, not before; keys never become paths."""
    await _put(session, site.url, b"x" * 100, "bytes 0-99/1000")
    assert await site.spool.sweep(60) == 0
    assert site.spool.offset("key") == 100
    assert site.spool.offset("../../key") == 0
    assert await site.spool.sweep(-1) == 1
    assert site.spool.offset("key") == 0


def _range(start: int, total: int) -> str:
    return f"bytes {start}-{total - 1}/{total}"


async def _put(
    session: aiohttp.ClientSession, url: str, data: object, content_range: str = "", digest: object = ""
) -> tuple[int, dict[str, str], str]:
    headers = {"Content-Range": content_range} if content_range else {}
    if digest:
        headers["Repr-Digest"] = str(digest)
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

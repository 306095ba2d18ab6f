"""Down: GET, and on with Range, over real connections that break, lie and dawdle."""

import asyncio
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from sbi import serve
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
from tests.support_proxy import Fault, Proxy
from tests.support_site import MIB, SIZE, SOON, Site, content_of, sha256_of


@pytest.fixture(autouse=True)
def _stored(site: Site, model: Path) -> None:
    site.stored.write_bytes(content_of(model))


async def test_a_file_arrives(
    site: Site, session: aiohttp.ClientSession, model: Path, tmp_path: Path
) -> None:
    """The file appears whole, and nothing else stays beside it."""
    seen: list[tuple[int, int | None]] = []
    got = await download(session, site.url, tmp_path / "got", progress=lambda *at: seen.append(at))
    assert got.size == SIZE
    assert got.headers["Repr-Digest"] == str(sha256_of(model))
    assert content_of(tmp_path / "got") == content_of(model)
    assert _names(tmp_path) == ["got", "model", "stored"]
    assert seen[-1] == (SIZE, SIZE)


async def test_a_cut_download_goes_on_where_it_stopped(
    proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
) -> None:
    """After two cuts all connections together carried the file about once."""
    proxy.down += [Fault(cut=2 * MIB), Fault(cut=2 * MIB)]
    await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
    assert content_of(tmp_path / "got") == content_of(model)
    assert len(proxy.sent_down) == 3
    assert sum(proxy.sent_down) < SIZE + MIB // 2


async def test_a_download_goes_on_after_this_process_restarted(
    proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
) -> None:
    """What came stays beside the target, and a later call asks for the rest only."""
    proxy.down.append(Fault(cut=4 * MIB))
    with pytest.raises(TransferError, match="given up"):
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=Patience(attempts=1))
    assert not (tmp_path / "got").exists()
    await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
    assert content_of(tmp_path / "got") == content_of(model)
    assert sum(proxy.sent_down) < SIZE + MIB // 2


async def test_a_download_that_was_complete_but_not_yet_checked(
    proxy: Proxy, session: aiohttp.ClientSession, model: Path, tmp_path: Path
) -> None:
    """When all bytes are here one of them is asked for again, not all."""
    proxy.down.append(Fault(cut=4 * MIB))
    with pytest.raises(TransferError):
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=Patience(attempts=1))
    os.replace(model, tmp_path / "got.part")
    await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
    assert proxy.sent_down[1] < 2_000


async def test_a_file_that_changed_meanwhile_is_got_anew(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Halves of two versions are never put together."""
    proxy.down.append(Fault(cut=3 * MIB))
    with pytest.raises(TransferError):
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=Patience(attempts=1))
    site.stored.unlink()
    site.stored.write_bytes(os.urandom(SIZE))
    await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
    assert sha256_of(tmp_path / "got") == sha256_of(site.stored)


async def test_a_flipped_bit_is_refused_and_removed(
    proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A file with another digest than announced does not appear, nor does its part stay."""
    proxy.down.append(Fault(flip=5 * MIB))
    with pytest.raises(CorruptTransfer, match="digest"):
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=SOON)
    assert _names(tmp_path) == ["model", "stored"]


async def test_too_much_is_not_taken(site: Site, session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A file over the limit is refused by its announced size."""
    with pytest.raises(TransferTooLarge, match=str(SIZE)):
        await download(session, site.url, tmp_path / "got", max_bytes=SIZE - 1)


async def test_a_refusal_is_not_repeated(
    proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """404 will not change: one request, and an error that has the status and no address."""
    with pytest.raises(TransferRefused) as refused:
        await download(session, f"{proxy.url}/nothing", tmp_path / "got", patience=SOON)
    assert refused.value.status == 404
    assert "127.0.0.1" not in str(refused.value)
    assert len(proxy.sent_up) == 1


async def test_a_silent_server_is_given_up(
    proxy: Proxy, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A connection over which nothing comes counts as broken, a bounded number of times."""
    proxy.down += [Fault(hold=0)] * 3
    patience = Patience(attempts=3, first=0.01, stall=0.2)
    with pytest.raises(TransferError, match="given up"):
        await download(session, f"{proxy.url}/model", tmp_path / "got", patience=patience)
    assert len(proxy.sent_up) == 3


async def test_bytes_that_get_lost_end_the_connection(site: Site, session: aiohttp.ClientSession) -> None:
    """An error in the middle breaks the answer off; it is never written where the file goes on."""
    async with session.get(site.url.replace("model", "lost")) as response:
        assert (response.status, response.content_length) == (200, 2 * MIB)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_receiver_that_takes_nothing_is_given_up(
    site: Site, large: Path, monkeypatch: pytest.MonkeyPatch
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
        assert await response.read() == expected(content_of(model))


async def test_conditions(site: Site, session: aiohttp.ClientSession, model: Path) -> None:
    """304 for the version at hand, 416 past the end, the whole when If-Range names another version."""
    tag = f'"{sha256_of(model).hex}"'
    async with session.get(site.url, headers={"If-None-Match": f'"x", {tag}'}) as response:
        assert (response.status, response.headers["ETag"]) == (304, tag)
    async with session.get(site.url, headers={"Range": f"bytes={SIZE}-"}) as response:
        assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    async with session.get(site.url, headers={"Range": "bytes=1-1", "If-Range": '"x"'}) as response:
        assert (response.status, response.content_length) == (200, SIZE)
    async with session.head(site.url) as response:
        assert (response.status, response.content_length) == (200, SIZE)
        assert response.headers["Repr-Digest"] == str(sha256_of(model))


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
    assert sha256_of(tmp_path / "got") == sha256_of(big)


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir() if entry.name != "spool")

"""Models that are sent from memory and received into it, over connections that break and lie."""

import os
from pathlib import Path

import aiohttp
import pytest

from sbi.digests import CRC32C, WANT_REPR_DIGEST, digest_of_buffers
from sbi.transfer import (
    CorruptTransfer,
    TransferError,
    TransferTooLarge,
    download_buffer,
    upload_buffers,
)
from tests.support import eventually
from tests.support_proxy import Fault, Proxy
from tests.support_site import LARGE, MIB, SIZE, SOON, UNDER_WAY, Site, content_of

WANTED = {WANT_REPR_DIGEST: "crc32c=1"}


async def test_buffers_arrive_as_one_file(site: Site, session: aiohttp.ClientSession) -> None:
    """In their order, whatever their sizes and kinds."""
    model = os.urandom(SIZE)
    seen: list[tuple[int, int | None]] = []
    buffers = [model[:5], b"", bytearray(model[5 : 3 * MIB]), memoryview(model)[3 * MIB :]]
    answer = await upload_buffers(
        session, site.url, buffers, CRC32C, progress=lambda *at: seen.append(at), patience=SOON
    )
    assert answer.status == 204
    assert content_of(site.stored) == model
    assert seen[-1] == (SIZE, SIZE)


async def test_a_cut_upload_goes_on_where_it_stopped(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession
) -> None:
    """In whichever buffer that is."""
    model = os.urandom(LARGE)
    proxy.up.append(Fault(cut=12 * MIB))
    buffers = [memoryview(model)[at : at + 5 * MIB] for at in range(0, LARGE, 5 * MIB)]
    answer = await upload_buffers(session, f"{proxy.url}/model", buffers, CRC32C, patience=SOON)
    assert answer.status == 204
    assert content_of(site.stored) == model
    assert sum(proxy.sent_up) < LARGE + 3 * UNDER_WAY


async def test_a_flipped_bit_on_the_way_up_is_refused(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession
) -> None:
    """CRC32C notices it too."""
    proxy.up.append(Fault(flip=5 * MIB))
    answer = await upload_buffers(session, f"{proxy.url}/model", [os.urandom(SIZE)], CRC32C, patience=SOON)
    assert (answer.status, site.received) == (400, [])
    assert b"Repr-Digest" in answer.body


async def test_a_model_is_received_with_the_digest_that_was_wanted(
    site: Site, session: aiohttp.ClientSession, model: Path
) -> None:
    """And the entity tag goes with it, so that a part of the file can be continued."""
    site.stored.write_bytes(content_of(model))
    got = await download_buffer(session, site.url, headers=WANTED)
    assert got.content == content_of(model)
    digest = digest_of_buffers([got.content], CRC32C)
    assert got.headers["Repr-Digest"] == str(digest)
    assert got.headers["ETag"] == f'"{digest.hex}-{SIZE}"'


@pytest.mark.parametrize("headers", [WANTED, {}])
async def test_a_cut_download_goes_on_where_it_stopped(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path, headers: dict[str, str]
) -> None:
    """After two cuts all connections together carried the file about once."""
    site.stored.write_bytes(content_of(model))
    proxy.down += [Fault(cut=2 * MIB), Fault(cut=2 * MIB)]
    got = await download_buffer(session, f"{proxy.url}/model", headers=headers, patience=SOON)
    assert got.content == content_of(model)
    assert len(proxy.sent_down) == 3
    assert sum(proxy.sent_down) < SIZE + MIB // 2


async def test_a_file_that_changed_meanwhile_is_received_anew(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path
) -> None:
    """Halves of two versions are never put together."""
    site.stored.write_bytes(content_of(model))
    later = os.urandom(SIZE)

    def changed(done: int, _: int | None) -> None:
        if done < SIZE:
            site.stored.unlink(missing_ok=True)
            site.stored.write_bytes(later)

    proxy.down.append(Fault(cut=3 * MIB))
    got = await download_buffer(
        session, f"{proxy.url}/model", headers=WANTED, patience=SOON, progress=changed
    )
    assert got.content == later


@pytest.mark.parametrize("headers", [WANTED, {}])
async def test_a_flipped_bit_on_the_way_down_is_noticed(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path, headers: dict[str, str]
) -> None:
    """By either algorithm."""
    site.stored.write_bytes(content_of(model))
    proxy.down.append(Fault(flip=5 * MIB))
    with pytest.raises(CorruptTransfer, match="digest"):
        await download_buffer(session, f"{proxy.url}/model", headers=headers, patience=SOON)


async def test_too_much_is_not_received(site: Site, session: aiohttp.ClientSession, model: Path) -> None:
    """A file over the limit is refused by its announced size."""
    site.stored.write_bytes(content_of(model))
    with pytest.raises(TransferTooLarge, match=str(SIZE)):
        await download_buffer(session, site.url, max_bytes=SIZE - 1)


async def test_a_server_that_is_gone_is_given_up(
    site: Site, proxy: Proxy, session: aiohttp.ClientSession, model: Path
) -> None:
    """After the attempts that patience allows, and nothing of it is left open."""
    site.stored.write_bytes(content_of(model))
    proxy.down += [Fault(cut=MIB // 2)] * 9
    with pytest.raises(TransferError, match="given up"):
        await download_buffer(session, f"{proxy.url}/model", patience=SOON)
    await eventually(lambda: not site.busy)

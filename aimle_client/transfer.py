"""Model bytes from and to addresses that a server named, with the SDK's errors; the address is the permission."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import hdrs

from aimle_client.errors import CorruptTransfer, ServerUnavailable, TransferFailed

AGGREGATION = "aggregation"
"""Link relation (RFC 8288) from a global model to where the updates made from it go."""

_CHUNK = 2**20


async def aggregation_address(session: aiohttp.ClientSession, model_url: str) -> str | None:
    """Where the update of this model goes, as the model's own resource says; None when it does not say.

    Raises:
        ServerUnavailable: no answer.
    """
    try:
        async with session.head(model_url, allow_redirects=True) as response:
            link = response.links.get(AGGREGATION)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServerUnavailable("the address of the model does not answer") from error
    return None if link is None else str(link["url"])


async def fetch(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    """Get a model file and compare it with the digest that the server announced (RFC 9530).

    Raises:
        TransferFailed: the server does not have it, or stopped in the middle.
        CorruptTransfer: what came has another digest.
    """
    try:
        async with session.get(url) as response:
            if response.status != 200:
                raise TransferFailed(f"the model is not to be had: {response.status}")
            digest = await _save(response, path)
            announced = response.headers.get("Repr-Digest", digest)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TransferFailed("the model did not arrive") from error
    if digest not in announced:
        raise CorruptTransfer("the model that arrived is not the one that was announced")


async def deliver(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    """PUT a model file, with its digest.

    Raises:
        TransferFailed: the server does not take it.
    """
    size, digest = await asyncio.to_thread(_size_and_digest, path)
    headers = {
        hdrs.CONTENT_TYPE: "application/octet-stream",
        hdrs.CONTENT_LENGTH: str(size),
        "Repr-Digest": _repr_digest(digest),
    }
    try:
        async with session.put(url, data=_chunks(path), headers=headers) as response:
            if not 200 <= response.status < 300:
                raise TransferFailed(f"the server does not take the update: {response.status}")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TransferFailed("the update could not be delivered") from error


async def _save(response: aiohttp.ClientResponse, path: Path) -> str:
    digest = hashlib.sha256()
    with await asyncio.to_thread(path.open, "wb") as file:
        async for chunk in response.content.iter_chunked(_CHUNK):
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
    return _repr_digest(digest.digest())


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _size_and_digest(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").digest()


def _repr_digest(digest: bytes) -> str:
    return f"sha-256=:{base64.b64encode(digest).decode()}:"

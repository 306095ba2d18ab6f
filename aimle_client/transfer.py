"""Models from and to addresses that a server named for them, with the SDK's errors.

The addresses of a round are their own permission, so no token travels there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs
from yarl import URL

from aimle_client.errors import CorruptTransfer, TransferFailed, refusal_of
from aimle_client.http import Connection
from sbi import transfer
from sbi.clock import Clock
from sbi.digests import CRC32C, SHA256, WANT_REPR_DIGEST, Buffer

MAX_BYTES = 2 * 2**30
"""Largest model that is taken from a server, in bytes."""

_DIGESTS = {WANT_REPR_DIGEST: f"{CRC32C}=10, {SHA256}=1"}

_LINK = re.compile(r'<([^>]*)>\s*;[^,]*?\brel="?([\w-]+)"?')
"""A link (RFC 8288) from a global model to what goes with it."""

AGGREGATION, STATE, RESUME = "aggregation", "intermediate-state", "resume"
"""To where updates go, to where the state of the training can be left, and to one that is to be gone on with."""


@dataclass(frozen=True)
class Fetched:
    """A file that has come.

    Attributes:
        content: its bytes.
        links: addresses of what goes with it, by relation.
    """

    content: bytearray
    links: Mapping[str, str]


async def fetch(session: aiohttp.ClientSession, url: str, clock: Clock) -> Fetched:
    """A global model, or the state of a training.

    Raises:
        RequestRefused: the server does not give it.
        TransferFailed, CorruptTransfer: it did not arrive, or not as announced.
    """
    with _sdk_errors():
        arrived = await transfer.download_buffer(
            session, url, headers=_DIGESTS, max_bytes=MAX_BYTES, clock=clock
        )
    found = _LINK.findall(arrived.headers.get(hdrs.LINK, ""))
    return Fetched(arrived.content, {rel: str(URL(url).join(URL(link))) for link, rel in found})


async def fetch_with_token(connection: Connection, url: str, clock: Clock) -> bytes:
    """The file of a model that is at the connection's server, or elsewhere: only there the token goes.

    Raises: as `fetch`.
    """
    headers: dict[str, str] = {}
    if url.startswith(f"{connection.server}/"):
        headers = await connection.authorization(URL(url).path.split("/")[1])
    with _sdk_errors():
        arrived = await transfer.download_buffer(
            connection.session, url, headers=headers, max_bytes=MAX_BYTES, clock=clock
        )
    return bytes(arrived.content)


async def deliver(
    session: aiohttp.ClientSession,
    url: str,
    update: Sequence[Buffer],
    clock: Clock,
    coding: str | None = None,
) -> None:
    """PUT an update: the file that these buffers are one after the other, in the content coding `coding` if any.

    Raises:
        RequestRefused: the server does not take it: the round is over, or it is not an update of this model.
        TransferFailed: it could not be sent.
    """
    with _sdk_errors():
        headers: dict[str, str] = {hdrs.CONTENT_ENCODING: coding} if coding else {}
        answer = await transfer.upload_buffers(session, url, update, CRC32C, headers=headers, clock=clock)
    if not 200 <= answer.status < 300:
        raise refusal_of(answer.status, answer.body)


@contextmanager
def _sdk_errors() -> Iterator[None]:
    try:
        yield
    except transfer.TransferRefused as error:
        raise refusal_of(error.status, error.body) from error
    except transfer.CorruptTransfer as error:
        raise CorruptTransfer(str(error)) from error
    except transfer.TransferError as error:
        raise TransferFailed(str(error)) from error

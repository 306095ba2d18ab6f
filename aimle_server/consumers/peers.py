"""Other processes of this deployment: a request for a training goes to the one that drives it.

Any process may be the one that a participant or a VAL server reaches. What concerns a running training is
answered by the holder of its lease, under the address that the holder wrote beside the lease; the request passes
through as it is, streamed both ways.
"""

from collections.abc import Mapping

import aiohttp
from aiohttp import hdrs, web

from ml_repository.trainings import Trainings
from sbi.errors import Unavailable

FORWARDED = "AIMLE-Forwarded"
"""Marks a request that was passed on once; it is not passed on again."""

RETRY_AFTER = 5
"""Seconds after which a training that nobody drives should have been taken over."""

_HOP_BY_HOP = frozenset(
    name.lower()
    for name in (
        *(hdrs.CONNECTION, hdrs.KEEP_ALIVE, hdrs.PROXY_AUTHENTICATE, hdrs.PROXY_AUTHORIZATION, hdrs.TE),
        *(hdrs.TRAILER, hdrs.TRANSFER_ENCODING, hdrs.UPGRADE, hdrs.HOST, hdrs.EXPECT, hdrs.SERVER, hdrs.DATE),
    )
)


class Peers:
    """Passes requests on.

    Args:
        address: apiRoot at which this process is reached by the others.
    """

    def __init__(self, trainings: Trainings, session: aiohttp.ClientSession, address: str) -> None:
        self._trainings = trainings
        self._session = session
        self._address = address

    async def ask_holder(
        self, request: web.Request, key: str | None, training_id: str | None, otherwise: Exception
    ) -> web.StreamResponse:
        """The answer of the process that drives the training with this participant's key, or with this id.

        Raises:
            otherwise: there is no such training, or it has ended.
            Unavailable: nobody drives it at the moment; it is about to be taken over.
        """
        address = await self._trainings.address(key=key, training_id=training_id)
        if address is None:
            raise otherwise
        if address == self._address or FORWARDED in request.headers:
            raise Unavailable("the training is being taken over", retry_after=RETRY_AFTER)
        return await self._pass_on(request, address)

    async def _pass_on(self, request: web.Request, address: str) -> web.StreamResponse:
        body = await request.read() if request.content.at_eof() else request.content
        try:
            answer = await self._session.request(
                request.method,
                f"{address}{request.rel_url}",
                headers=_end_to_end(request.headers) | {FORWARDED: "1"},
                data=body,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise Unavailable("the training is being taken over", retry_after=RETRY_AFTER) from error
        async with answer:
            return await _copy(request, answer)


async def _copy(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError):
        if request.transport:
            request.transport.abort()  # the caller must not take what came for the whole
    return response


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def open_peer_session() -> aiohttp.ClientSession:
    """A session for requests to peers: as they are, without a limit on the length of a transfer."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60),
    )

"""JSON requests to an AIMLE server: tokens, retries, ProblemDetails as errors. Both sides of the SDK use it.

What may be sent twice: a request whose method is idempotent, and any request that surely was not processed
(no connection was made, or 429/503 with Retry-After). Everything else fails at its first failure, and so does
what no repetition helps: a certificate that is not trusted.
"""

import json
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import hdrs
from yarl import URL

from aimle_client.addresses import api_root
from aimle_client.errors import (
    NotTrusted,
    ServerUnavailable,
    Unauthorized,
    UnexpectedAnswer,
    refusal,
    refusal_of,
)
from aimle_client.failures import failure, not_sent
from aimle_client.tokens import ClientCredentials, TokenProvider
from sbi.api import JSON
from sbi.clock import Clock

__all__ = ["Answer", "ClientCredentials", "Connection", "RetryPolicy", "open_session"]

_IDEMPOTENT = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_PUT, hdrs.METH_DELETE})
_COME_AGAIN = frozenset({429, 502, 503, 504})
_HEARTBEAT = 20.0
"""Seconds between two pings on a WebSocket: NATs forget connections on which nothing happens."""
_LARGEST_MESSAGE = 16 * 2**20
_ANSWER_WITHIN = aiohttp.ClientTimeout(total=30, sock_connect=10)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a failed request is repeated.

    Attributes:
        attempts: requests in all, the first one included.
        first: seconds before the second request; doubled for each one after it.
        longest: most seconds between two; a server that asks for more (Retry-After) is not waited for.
        jitter: a number in [0, 1) that spreads clients which failed together.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 15.0
    jitter: Callable[[], float] = random.SystemRandom().random

    def delay(self, attempt: int, retry_after: float | None) -> float | None:
        """Seconds to wait after the attempt with this number (from 1); None: give up."""
        if attempt >= self.attempts or (retry_after or 0) > self.longest:
            return None
        backoff: float = min(self.longest, self.first * 2 ** (attempt - 1))
        return max(retry_after or 0, backoff * (0.5 + self.jitter() / 2))


@dataclass(frozen=True)
class Answer:
    """A successful answer: its status (2xx), headers, and the JSON body or None."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    scope: str | None
    idempotent: bool
    data: bytes | None
    query: Mapping[str, str] | None
    content_type: str


class _Transient(Exception):
    """One failed attempt; `processed` is False when the server surely did nothing."""

    def __init__(self, error: ServerUnavailable, *, processed: bool) -> None:
        self.error = error
        self.processed = processed


class Connection:
    """One client's way to one AIMLE server.

    Args:
        server: apiRoot of the server, `https://aimle.example.com`.
        session: carries the requests; see `open_session`.
        tokens: where access tokens come from; None: requests carry none.

    Raises:
        ValueError: `server` does not begin with http:// or https:// and a host.
    """

    def __init__(
        self,
        server: str,
        session: aiohttp.ClientSession,
        *,
        tokens: TokenProvider | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.server = api_root("server", server)
        self.session = session
        self._tokens = tokens
        self._retry = retry or RetryPolicy()
        self._clock = clock or Clock()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> Answer:
        """Send a request to an API of the server; `path` begins with its base path: `/aimles-sel/v1/select`.

        Raises:
            RequestRefused: 4xx or 500, by the tree of `aimle_client.errors`.
            ServerUnavailable: no answer after all attempts that were allowed; NotTrusted at the first one.
            UnexpectedAnswer: not an answer of this API.
        """
        data = None if body is None else _dump(body)
        idempotent = method in _IDEMPOTENT
        scope = path.split("/")[1]
        return await self._send(
            _Request(method, self.server + path, scope, idempotent, data, query, content_type)
        )

    async def notify(self, url: str, body: Any) -> None:
        """POST a notification to an address that somebody gave for it: no token, and at least once.

        Raises: as `request`.
        """
        await self._send(_Request(hdrs.METH_POST, url, None, True, _dump(body), None, JSON))

    async def ask_peer(self, url: str, body: Any) -> Answer:
        """POST to an API of another AIMLE client, with a token for it.

        Raises: as `request`.
        """
        scope = URL(url).parts[-3]
        return await self._send(_Request(hdrs.METH_POST, url, scope, False, _dump(body), None, JSON))

    async def authorization(self, scope: str) -> dict[str, str]:
        """The Authorization header for a transfer under this API's base path; empty without credentials."""
        if self._tokens is None:
            return {}
        return {hdrs.AUTHORIZATION: f"Bearer {await self._tokens.token(scope)}"}

    async def websocket(self, url: str, scope: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket with a token for this scope; one that the server no longer takes is replaced once.

        Raises:
            RequestRefused: 4xx, by the tree of `aimle_client.errors`.
            ServerUnavailable: no answer; NotTrusted: the server's certificate.
        """
        try:
            return await self._open_websocket(url, scope)
        except Unauthorized:
            if self._tokens is None:
                raise
            self._tokens.forget(scope, await self._tokens.token(scope))
            return await self._open_websocket(url, scope)

    async def _open_websocket(self, url: str, scope: str) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self.session.ws_connect(
                url,
                headers=await self.authorization(scope),
                heartbeat=_HEARTBEAT,
                max_msg_size=_LARGEST_MESSAGE,
            )
        except aiohttp.WSServerHandshakeError as error:
            if 400 <= error.status < 500:
                raise refusal(error.status, None) from error
            raise ServerUnavailable(f"the server answers {error.status}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise failure("the server", url, error) from error

    async def _send(self, request: _Request) -> Answer:
        attempt = 1
        while True:
            try:
                return await self._authorized(request)
            except _Transient as failure:
                delay = self._retry.delay(attempt, failure.error.retry_after)
                if delay is None or (failure.processed and not request.idempotent):
                    raise failure.error from failure.__cause__
            await self._clock.sleep(delay)
            attempt += 1

    async def _authorized(self, request: _Request) -> Answer:
        """One attempt; a token that the server no longer takes is replaced once."""
        if self._tokens is None or request.scope is None:
            return _checked(*await self._exchange(request, None))
        token = await self._token(request.scope)
        response, body = await self._exchange(request, token)
        if response.status == 401:
            self._tokens.forget(request.scope, token)
            response, body = await self._exchange(request, await self._token(request.scope))
        return _checked(response, body)

    async def _token(self, scope: str) -> str:
        assert self._tokens is not None  # noqa: S101 - both callers looked
        try:
            return await self._tokens.token(scope)
        except NotTrusted:
            raise
        except ServerUnavailable as error:
            raise _Transient(error, processed=False) from error

    async def _exchange(self, request: _Request, token: str | None) -> tuple[aiohttp.ClientResponse, bytes]:
        headers = {hdrs.ACCEPT: "application/json, application/problem+json"}
        if token is not None:
            headers[hdrs.AUTHORIZATION] = f"Bearer {token}"
        if request.data is not None:
            headers[hdrs.CONTENT_TYPE] = request.content_type
        try:
            async with self.session.request(
                request.method,
                request.url,
                data=request.data,
                params=request.query,
                headers=headers,
                timeout=_ANSWER_WITHIN,
            ) as response:
                return response, await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            failed = failure("the server", request.url, error)
            if isinstance(failed, NotTrusted | UnexpectedAnswer):
                raise failed from error
            raise _Transient(failed, processed=not not_sent(error)) from error


def open_session(tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A session without cookies that gives up on a silent peer, and not on a long transfer.

    `tls` says who is trusted; None: whom Python and the system trust, see `addresses.trusting`.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
    )


def _dump(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _checked(response: aiohttp.ClientResponse, raw: bytes) -> Answer:
    if response.status in _COME_AGAIN:
        after = _seconds(response.headers.get(hdrs.RETRY_AFTER))
        error = ServerUnavailable(f"the server answers {response.status}", retry_after=after)
        raise _Transient(error, processed=after is None)
    if response.status >= 400:
        raise refusal_of(response.status, raw)
    if not 200 <= response.status < 300:
        raise UnexpectedAnswer(f"the server answers {response.status}")
    return Answer(response.status, response.headers, _body(response, raw))


def _body(response: aiohttp.ClientResponse, raw: bytes) -> Any:
    if not raw:
        return None
    body = _parsed(raw)
    if body is None:
        raise UnexpectedAnswer(f"the server answers {response.status} with something that is not JSON")
    return body


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in its form of seconds; the form of a date is not waited for."""
    return float(retry_after) if retry_after and retry_after.isdigit() else None

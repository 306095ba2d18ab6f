"""Access tokens by client credentials (RFC 6749 4.4): one per scope, kept until it soon expires."""

import asyncio
import base64
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import aiohttp

from aimle_client.addresses import web_address
from aimle_client.errors import RequestRefused, ServerUnavailable, UnexpectedAnswer, refusal
from aimle_client.failures import failure
from sbi.clock import Clock

_LEEWAY = timedelta(seconds=30)
_DEFAULT_LIFE = 300

_STATUS = {"invalid_client": 401, "unauthorized_client": 403, "invalid_scope": 403}
"""What the codes of RFC 6749 5.2, which come with status 400, are among the SDK's errors."""


@dataclass(frozen=True)
class ClientCredentials:
    """What the AIMLE server's operator gave this client.

    Attributes:
        client_id: the OAuth 2.0 client identifier; the `sub` of its tokens.
        secret: never shown, not even by `repr`.
    """

    client_id: str
    secret: str = field(repr=False)

    def basic(self) -> str:
        """The Authorization header of a token request (RFC 6749 2.3.1: both parts are form-encoded)."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    got_at: datetime
    renew_at: datetime


class TokenProvider:
    """Tokens of one client at one token endpoint, whose `url` is checked: ValueError where it is none."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, credentials: ClientCredentials, clock: Clock
    ) -> None:
        self._session = session
        self._url = web_address("token_url", url)
        self._credentials = credentials
        self._clock = clock
        self._kept: dict[str, _Token] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def token(self, scope: str) -> str:
        """A token for this scope that is good for a while; requests that wait for the same one share it.

        Raises:
            Unauthorized: the server does not know these credentials.
            Forbidden: it does not grant this client the scope.
            RequestRefused: it refuses for another reason.
            ServerUnavailable: the token endpoint does not answer, or not now; NotTrusted: its certificate.
            UnexpectedAnswer: the address is not a token endpoint.
        """
        async with self._locks[scope]:
            kept = self._kept.get(scope)
            if kept is None or not kept.got_at <= self._clock.now() < kept.renew_at:
                kept = self._kept[scope] = await self._fetch(scope)
            return kept.value

    def forget(self, scope: str, token: str) -> None:
        """The server refused this token; the next request gets a new one."""
        kept = self._kept.get(scope)
        if kept is not None and kept.value == token:
            del self._kept[scope]

    async def _fetch(self, scope: str) -> _Token:
        form = {"grant_type": "client_credentials", "scope": scope}
        headers = {"Authorization": self._credentials.basic(), "Accept": "application/json"}
        try:
            async with self._session.post(
                self._url, data=form, headers=headers, allow_redirects=False
            ) as response:
                status, answer = response.status, _parsed(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise failure("the token endpoint", self._url, error) from error
        if status == 429 or status >= 500:
            raise ServerUnavailable(f"the token endpoint answers {status}")
        if status != 200:
            raise _refusal(status, answer, scope)
        return self._keep(answer)

    def _keep(self, answer: Any) -> _Token:
        value = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(value, str):
            raise UnexpectedAnswer("the token endpoint answered without an access_token")
        seconds = answer.get("expires_in")
        life = timedelta(seconds=seconds if isinstance(seconds, int | float) else _DEFAULT_LIFE)
        now = self._clock.now()
        return _Token(value, now, now + life - min(_LEEWAY, life / 2))


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _refusal(status: int, answer: Any, scope: str) -> RequestRefused:
    """The SDK's error for an error of RFC 6749 5.2."""
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), str):
        return refusal(status, answer)
    code, detail = answer["error"], answer.get("error_description")
    if code == "invalid_scope":  # nobody knows from the server's words which one it was
        detail = f"the client may not have the scope {scope}"
    return refusal(_STATUS.get(code, status), {"cause": code, "detail": detail})

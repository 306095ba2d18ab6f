"""A consumer of an AIMLE server's APIs: it gets tokens, sends requests, and checks and records each exchange."""

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote_plus, urljoin, urlsplit

import aiohttp
import pytest

from support.background import Background
from support.documents import Documents, NotAsDocumented, Operation
from support.exchange import Exchange
from support.report import Report

Json = Any

NOT_SUPPORTED = (404, 501)
_REDIRECTS = (307, 308)
_TIMEOUT = aiohttp.ClientTimeout(total=60)
_UNTOLD = 60
"""Seconds that a token counts as valid of which nobody says how long it is."""


@dataclass(frozen=True)
class Request:
    """What a right request of an operation has beside method and path.

    Attributes:
        variables: values of the variables in the path.
    """

    body: Json = None
    query: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


class NoToken(Exception):
    """The token endpoint gave none."""


class Tokens:
    """Client credentials (RFC 6749 4.4) and the tokens for them."""

    def __init__(self, background: Background, token_url: str, client_id: str, secret: str) -> None:
        self._background = background
        self._token_url = token_url
        # RFC 6749 2.3.1: both are form-encoded before they become Basic credentials.
        both = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        self._headers = {"Authorization": "Basic " + base64.b64encode(both.encode()).decode()}
        self._known: dict[str | None, tuple[str, float]] = {}

    def get(self, scope: str | None = None) -> str:
        """A token for the scope, or for all that the client may have.

        Raises:
            NoToken: the endpoint refused, or gave another scope.
        """
        token, until = self._known.get(scope, ("", 0.0))
        if time.monotonic() >= until:
            token, seconds = self._background.run(self._ask(scope))
            self._known[scope] = token, time.monotonic() + seconds / 2
        return token

    async def _ask(self, scope: str | None) -> tuple[str, float]:
        form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.post(self._token_url, data=form, headers=self._headers) as response,
        ):
            if response.status != 200:
                raise NoToken(f"the token endpoint answered {response.status}")
            answer = await response.json()
        if scope is not None and answer.get("scope", scope) != scope:
            raise NoToken("the token endpoint gave another scope than was asked for")
        return str(answer["access_token"]), float(answer.get("expires_in", _UNTOLD))


class Consumer:
    """Somebody who calls the server.

    Args:
        root: apiRoot of the server.
        tokens: None: the server asks for none.
        supported: what is known of the server's support, by collection; shared by all consumers.
    """

    def __init__(
        self,
        root: str,
        tokens: Tokens | None,
        background: Background,
        documents: Documents,
        report: Report,
        supported: dict[str, bool],
    ) -> None:
        self.root = root.rstrip("/")
        self.tokens = tokens
        self._background = background
        self._documents = documents
        self._report = report
        self._supported = supported
        self._made: list[tuple[Operation, str]] = []
        self._ahead = timedelta()

    def operation(self, api: str, name: str) -> Operation:
        """An operation of the documents; the test is skipped where they do not have it."""
        found = self._documents.operations.get(api, {}).get(name)
        if found is None:
            pytest.skip(f"the documents have no {name} of {api}")
        return found

    def call(self, api: str, name: str, body: Json = None, **options: Any) -> Exchange:
        """Do an operation; the test is skipped where the server does not support it.

        Args:
            options: `variables` and `query` of a Request, and those of `send`.
        """
        query, variables = options.pop("query", {}), options.pop("variables", {})
        return self.do(self.operation(api, name), Request(body, query, variables), **options)

    def do(self, operation: Operation, request: Request, **options: Any) -> Exchange:
        """The same with an Operation and a Request."""
        self.need(operation)
        path = operation.base + operation.path
        for variable, value in request.variables.items():
            path = path.replace(f"{{{variable}}}", value)
        data = None if request.body is None else json.dumps(request.body).encode()
        options.setdefault("content_type", operation.content_type if data is not None else None)
        data = options.pop("data", data)
        return self.send(operation.method, path, data, operation=operation, query=request.query, **options)

    def need(self, operation: Operation) -> None:
        """Skip the test unless the server supports this operation."""
        where = operation.base + operation.collection
        if where not in self._supported:
            self._supported[where] = self._probe(operation)
        if not self._supported[where]:
            self._report.not_supported(operation)
            pytest.skip(f"not supported by the server: {where}")

    def _probe(self, operation: Operation) -> bool:
        """Whether there is something at the operation's collection; the request is wrong, so that it does nothing."""
        same = self._documents.operations[operation.api].values()
        here = [one for one in same if one.path == operation.collection]
        if not here:
            return True
        probed = next((one for one in here if one.content_type), here[0])
        data = b"{" if probed.content_type else None
        exchange = self.send(
            probed.method, probed.base + probed.path, data, operation=probed, content_type=probed.content_type
        )
        return exchange.status not in NOT_SUPPORTED

    def send(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        *,
        operation: Operation | None = None,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Exchange:
        """Any request; its answer is recorded and checked.

        Args:
            token: instead of the consumer's own; empty: none.

        Raises:
            NotAsDocumented: the answer is one that must not be.
        """
        headers = {"Content-Type": content_type} if content_type else {}
        if token is None and self.tokens is not None:
            token = self.tokens.get()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = path if "://" in path else self.root + path
        exchange = self._background.run(_send(operation, method, url, headers, data, query))
        self._report.record(exchange)
        if "Date" in exchange.headers:
            self._ahead = parsedate_to_datetime(exchange.headers["Date"]) - datetime.now(UTC)
        exchange.check()
        if exchange.status == 201 and operation is not None:
            self._made.append((operation, exchange.location))
        return exchange

    def reach(self) -> None:
        """Get a token and connect.

        Raises:
            NoToken: there is none; aiohttp.ClientError, TimeoutError: nobody answers.
        """
        if self.tokens is not None:
            self.tokens.get()
        self._background.run(_connect(self.root))

    def now(self) -> datetime:
        """The server's time, to the second, as its answers tell it."""
        return datetime.now(UTC) + self._ahead

    def wait_until(self, moment: datetime) -> None:
        """Return when that moment is over at the server, surely."""
        while self.now() <= moment + timedelta(seconds=1):
            time.sleep(0.1)

    def clean_up(self) -> None:
        """Delete what this consumer has made and nobody deleted; a server may have deleted it already."""
        for made, identifier in self._made:
            for one in self._documents.operations[made.api].values():
                if one.method == "DELETE" and one.collection == made.collection and one.variables:
                    self.do(one, Request(variables={one.variables[0]: identifier}))


async def _connect(url: str) -> None:
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.get(url, allow_redirects=False),
    ):
        pass


async def _send(
    operation: Operation | None,
    method: str,
    url: str,
    headers: Mapping[str, str],
    data: bytes | None,
    query: Mapping[str, str] | None,
) -> Exchange:
    """The exchange, the last one where the server redirects (TS 29.122 5.2.10)."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT, skip_auto_headers=["Content-Type"]) as session:
        for _ in range(4):
            async with session.request(
                method, url, headers=headers, data=data, params=query, allow_redirects=False
            ) as answer:
                text = await answer.text(errors="replace")
                shown, sent = str(answer.url), (data or b"").decode(errors="replace")
                exchange = Exchange(
                    *(operation, method, shown, sent, answer.status, answer.headers, text),
                    sent_type=headers.get("Content-Type"),
                    with_token="Authorization" in headers,
                )
            if exchange.status not in _REDIRECTS or "Location" not in exchange.headers:
                return exchange
            url = urljoin(url, exchange.headers["Location"])
            if urlsplit(url).netloc != urlsplit(shown).netloc:
                raise NotAsDocumented(f"redirected to another host, which is not followed: {url}")
            query = None
    raise NotAsDocumented(f"redirected again and again: {url}")


def unknown() -> str:
    """An identifier that no server has given away."""
    return f"no-such-{secrets.token_hex(8)}"


def fresh(prefix: str) -> str:
    """An identifier that is new at the server, also when the suite runs there a second time."""
    return f"{prefix}-{secrets.token_hex(6)}"


def wire(moment: datetime) -> str:
    """As the documents' DateTime."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

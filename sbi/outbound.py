"""Calls that this side makes: which targets it may call, and one client that holds to it.

Addresses to call come from peers (`notifUri`, model locations), so each is a way to make this server call
something inside its own network. A literal address is judged before every request and every redirect, a name
when it is resolved for the connection: a name that changes its address in between gains nothing. Redirection
follows TS 29.501 4.8 and TS 29.500 6.10.9: 307 and 308 only.
"""

import asyncio
import json as json_text
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Authorize = Callable[[str], Awaitable[str | None]]
"""Scope -> the bearer token to call with, or None: without a token."""

_NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *(
            "0.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),  # the last holds the broadcast address
        *("::/128", "fe80::/10", "ff00::/8"),
        # where clouds hand credentials to whoever asks
        *("fd00:ec2::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"),
    )
)
_LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_IPV4_IN_LAST_32_BITS: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_MAX_REDIRECTS = 5
_LARGE = 1 << 18


class TargetRefused(ValueError):
    """The policy does not let us call this target; the message is fit for whoever named the target."""


class TargetUnreachable(Exception):
    """The target gave no usable answer; the message says in general terms why."""


@dataclass(frozen=True)
class TargetPolicy:
    """What may be called.

    Unicast addresses, public and private, may be called; loopback may not, nor may `deny`. `allow` opens
    parts of both again. Link-local, multicast, reserved and cloud metadata addresses are refused whatever
    `allow` says, and so is every IPv6 form (mapped, NAT64, 6to4) of a refused IPv4 address.

    Attributes:
        schemes: URL schemes that may be called.
        allow: ranges to call even though they are loopback or in `deny`.
        deny: ranges not to call, e.g. the management network.
    """

    schemes: tuple[str, ...] = ("https", "http")
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    def check(self, url: str | URL) -> None:
        """Judge what needs no name resolved: the URL's form, its scheme and a literal address.

        Raises:
            TargetRefused: with the reason.
        """
        parsed = _parse(url)
        if parsed.scheme not in self.schemes:
            raise TargetRefused(f"the URL's scheme must be one of: {', '.join(self.schemes)}")
        if parsed.raw_user is not None or parsed.raw_password is not None:
            raise TargetRefused("the URL must not carry credentials")
        if not parsed.raw_host or not parsed.port:
            raise TargetRefused("the URL must name a host")
        address = _literal(parsed.raw_host)
        if address is not None and not self.permits(address):
            raise TargetRefused("this address must not be called")

    def permits(self, address: Address) -> bool:
        """Whether a connection to this address may be opened."""
        forms = [address, *_embedded(address)]

        def within(networks: tuple[Network, ...]) -> bool:
            return any(form in network for form in forms for network in networks)

        if within(_NEVER):
            return False
        return within(self.allow) or not within(_LOOPBACK + self.deny)


def _parse(url: str | URL) -> URL:
    try:
        return URL(url)
    except ValueError as error:
        raise TargetRefused("this is not a URL") from error


@lru_cache(maxsize=4096)
def _literal(host: str) -> Address | None:
    """The address that `host` is, None for a name; other spellings (`127.1`, `0x7f.1`) are refused."""
    try:
        return ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        if ":" in host or last.isdigit() or last.startswith("0x"):
            raise TargetRefused("the URL's host is neither a name nor a plainly written address") from None
    try:
        host.encode("idna")  # as the look-up will: no empty label, none over 63 characters
    except UnicodeError:
        raise TargetRefused("the URL's host is not a valid name") from None
    return None


def _embedded(address: Address) -> list[Address]:
    """The IPv4 address that an IPv6 address leads to, if it is of such a kind."""
    if isinstance(address, IPv4Address) or address in _LOOPBACK[1]:
        return []
    if address.sixtofour is not None:
        return [address.sixtofour]
    if any(address in network for network in _IPV4_IN_LAST_32_BITS):
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return []


class GuardedResolver(AbstractResolver):
    """Resolves names, and leaves only the addresses that the policy permits."""

    def __init__(self, policy: TargetPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The permitted addresses of `host`; TargetRefused if it has addresses and none is permitted."""
        found = await self._resolver.resolve(host, port, family)
        permitted = [result for result in found if self._policy.permits(ip_address(result["host"]))]
        if found and not permitted:
            raise TargetRefused("this host resolves to an address that must not be called")
        return permitted

    async def close(self) -> None:
        """Close the resolver behind."""
        await self._resolver.close()


@dataclass(frozen=True)
class Response:
    """An answer, read.

    Attributes:
        status: HTTP status.
        headers: case-insensitive.
        body: at most `max_body` bytes.
        complete: False if the answer was longer and the rest was not read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool


@dataclass(frozen=True)
class _Outgoing:
    """A request to send, as often as redirects ask for it."""

    method: str
    data: bytes | None
    headers: dict[str, str]
    authorization: dict[str, str] = field(default_factory=dict)
    max_body: int = 0

    def headers_for(self, url: URL, first: URL) -> dict[str, str]:
        """The token belongs to the origin that was asked for, and to no other."""
        return self.headers | (self.authorization if url.origin() == first.origin() else {})


class Inside(Protocol):
    """A way to targets that are reached without a call: their addresses are of this side itself."""

    def leads(self, url: str) -> bool:
        """Whether the address is one of these."""
        ...

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, wait: float
    ) -> Response:
        """The target's answer; TargetUnreachable if after `wait` seconds there is nobody to ask."""
        ...


class Outbound:
    """The one HTTP client for targets that peers name: pooled, without cookies, proxies or decompression.

    Make it inside a running event loop, and `close` it.

    Args:
        policy: what may be called.
        authorize: gives the bearer token for a scope.
        inside: the way to targets that are not called.
        connect_timeout: seconds to open one connection.
        read_timeout: seconds of silence after which a stream of `session` is given up.
        connections: open connections at once.
        connections_per_target: open connections at once to one host and port.
        resolver: resolves names; default: the system's.
    """

    def __init__(
        self,
        policy: TargetPolicy,
        *,
        authorize: Authorize | None = None,
        inside: Inside | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 60.0,
        connections: int = 512,
        connections_per_target: int = 32,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.policy = policy
        self._authorize = authorize
        self._inside = inside
        self._resolver = GuardedResolver(policy, resolver or aiohttp.DefaultResolver())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver, limit=connections, limit_per_host=connections_per_target
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={hdrs.ACCEPT_ENCODING: "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout),
            auto_decompress=False,
            trust_env=False,
            middlewares=(self._guard,),
        )

    async def _guard(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """aiohttp asks no resolver about a literal address, so each request and each hop passes here."""
        self.policy.check(request.url)
        return await send(request)

    def check(self, url: str) -> None:
        """Judge an address before it is called.

        Raises:
            TargetRefused: the policy forbids it.
        """
        if self._inside is None or not self._inside.leads(url):
            self.policy.check(url)

    @property
    def session(self) -> aiohttp.ClientSession:
        """For streams; the policy holds here as well. The caller sets the limits of what it reads."""
        return self._session

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float,
        max_body: int = 64 * 1024,
        scope: str | None = None,
        wait: float = 0.0,
    ) -> Response:
        """One call: at most `timeout` seconds with redirects and all, at most `max_body` bytes read.

        The body is `json`, or else `data`, and of `content_type`. With `max_body=0` the answer is its status and
        headers, and no body is waited for. A target that only `inside` leads to, and that is away, has `wait` of these
        seconds to come back.

        Raises:
            TargetRefused: the policy forbids the target, or one that it redirects to.
            TargetUnreachable: no connection, no answer in time, or no end of redirects.
        """
        self.check(url)
        all_headers = dict(headers or {})
        if json is not None:
            data = json_text.dumps(json).encode()
        if data is not None:
            all_headers[hdrs.CONTENT_TYPE] = content_type
        try:
            async with asyncio.timeout(timeout):
                token = await self._token(scope)
                if self._inside is not None and self._inside.leads(url):
                    return await self._inside.send(method, url, all_headers | token, data or b"", wait)
                outgoing = _Outgoing(method, data, all_headers, token, max_body)
                return await self._follow(outgoing, URL(url))
        except TimeoutError as error:
            raise TargetUnreachable("the target did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TargetUnreachable("the target cannot be reached") from error

    async def _token(self, scope: str | None) -> dict[str, str]:
        if scope is None or self._authorize is None:
            return {}
        token = await self._authorize(scope)
        return {} if token is None else {hdrs.AUTHORIZATION: f"Bearer {token}"}

    async def _follow(self, outgoing: _Outgoing, first: URL) -> Response:
        url, seen = first, {first}
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send(outgoing, url, outgoing.headers_for(url, first))
            if response.status not in (307, 308) or hdrs.LOCATION not in response.headers:
                return response
            url = url.join(_parse(response.headers[hdrs.LOCATION])).with_fragment(None)
            self.policy.check(url)
            if url in seen:
                raise TargetUnreachable("the target redirects in a circle")
            seen.add(url)
        raise TargetUnreachable("the target redirects too often")

    async def _send(self, outgoing: _Outgoing, url: URL, headers: dict[str, str]) -> Response:
        async with self._session.request(
            outgoing.method, url, data=_in_pieces(outgoing.data), headers=headers, allow_redirects=False
        ) as response:
            body = await _read(response.content, outgoing.max_body)
            complete = response.content.at_eof()
            if not complete:
                response.close()  # reading on, only to keep the connection, is what a hostile target wants
            return Response(response.status, response.headers, body, complete)

    async def close(self) -> None:
        """Close all connections; streams still open on `session` break."""
        await self._session.close()
        await self._resolver.close()


def _in_pieces(data: bytes | None) -> bytes | BytesIO | None:
    """A large body is sent piece by piece, or it would hold up the event loop."""
    return data if data is None or len(data) <= _LARGE else BytesIO(data)


async def _read(stream: aiohttp.StreamReader, limit: int) -> bytes:
    """At most `limit` bytes, and the stream at its end if there are no more."""
    body = bytearray()
    while len(body) < limit and (chunk := await stream.read(limit - len(body))):
        body += chunk
    return bytes(body)

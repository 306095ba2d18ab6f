"""Which targets may be called, and what a hostile one can do to the caller: nothing."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address, ip_network

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from sbi.outbound import Outbound, TargetPolicy, TargetRefused, TargetUnreachable
from tests.support import Listener

LOOPBACK_ALLOWED = TargetPolicy(allow=(ip_network("127.0.0.0/8"),))


class Names(AbstractResolver):
    """A DNS of the test's own: each look-up of a name takes its next address; the last one stays."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's present address."""
        known = self.addresses[host.partition(".")[0]]
        address = known.pop(0) if len(known) > 1 else known[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """A client that may call loopback."""
    client = Outbound(LOOPBACK_ALLOWED)
    yield client
    await client.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A target."""
    async with Listener() as target:
        yield target


@pytest.mark.parametrize(
    "url",
    [
        "https://ue.example/notify",
        "http://ue.example:8080/notify?id=1",
        "https://192.0.2.7/notify",
        "http://10.1.2.3/notify",
        "http://[2001:db8::7]:8080/notify",
    ],
)
def test_public_and_private_targets_may_be_called(url: str) -> None:
    """Names and unicast addresses may be called without any setting."""
    TargetPolicy().check(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://ue.example/",
            "file:///etc/passwd",
            "//ue.example/",
            "notify",
            "http:///notify",
            "http://a..b/",
            f"http://{'a' * 64}.example/",
            "http://h:99999/",
        ),
        *("https://user:secret@ue.example/", "https://user@ue.example/", "https://:@ue.example/"),
        *("http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/"),
        *(
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
        ),
        *(
            "http://①②⑦.0.0.1/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://255.255.255.255/",
            "http://224.0.0.1/",
        ),
        *(
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
        ),
        *(
            "http://[fe80::1%25eth0]/",
            "http://[2002:7f00:1::]/",
            "http://[::a9fe:a9fe]/",
            "http://100.100.100.200/",
        ),
    ],
)
def test_targets_that_are_refused(url: str) -> None:
    """No other scheme, no credentials, no loopback, link-local or metadata address, however it is written."""
    with pytest.raises(TargetRefused):
        TargetPolicy().check(url)


def test_allow_opens_loopback_and_denied_ranges_but_never_metadata() -> None:
    """`deny` closes a range, `allow` opens it and loopback again, link-local and metadata stay closed."""
    closed = TargetPolicy(deny=(ip_network("10.0.0.0/8"),))
    everything = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    opened = TargetPolicy(deny=(ip_network("10.0.0.0/8"),), allow=everything)
    assert not closed.permits(ip_address("10.1.2.3"))
    assert not closed.permits(ip_address("::ffff:10.1.2.3"))
    assert closed.permits(ip_address("192.168.1.1"))
    for address in ("10.1.2.3", "127.0.0.1", "::1"):
        assert opened.permits(ip_address(address))
    for address in (
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "fe80::1",
    ):
        assert not opened.permits(ip_address(address))


def test_only_schemes_of_the_policy() -> None:
    """A policy of https only refuses http."""
    with pytest.raises(TargetRefused, match="https"):
        TargetPolicy(schemes=("https",)).check("http://ue.example/")


async def test_json_goes_out_and_the_answer_comes_back(outbound: Outbound, listener: Listener) -> None:
    """A call carries its JSON and content type and returns status, headers and body."""
    listener.answers = [web.Response(status=201, text="made", headers={"Location": "/x"})]
    answer = await outbound.request(
        "PATCH", listener.url("/n"), json={"a": 1}, content_type="application/merge-patch+json", timeout=5
    )
    assert (answer.status, answer.headers["location"], answer.body, answer.complete) == (
        201,
        "/x",
        b"made",
        True,
    )
    assert listener.bodies == [{"a": 1}]
    assert listener.received[0].headers["Content-Type"] == "application/merge-patch+json"


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254"])
async def test_a_name_that_resolves_to_a_forbidden_address(address: str, listener: Listener) -> None:
    """A harmless name whose address is loopback or metadata is refused when the connection is made."""
    client = Outbound(TargetPolicy(), resolver=Names(ue=[address]))
    with pytest.raises(TargetRefused):
        await client.request("POST", listener.url(host="ue.example"), json={}, timeout=5)
    await client.close()
    assert listener.received == []


async def test_the_shared_session_holds_to_the_policy(listener: Listener) -> None:
    """A stream opened on the session cannot reach what a request cannot, not even by a redirect."""
    client = Outbound(TargetPolicy(allow=(ip_network("127.0.0.1/32"),)))
    listener.answers = [web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})]
    with pytest.raises(TargetRefused):
        await client.session.get("http://127.0.0.2/")
    with pytest.raises(TargetRefused):
        await client.session.get(listener.url())
    await client.close()


@pytest.mark.parametrize("status", [307, 308])
async def test_redirects_are_followed_with_method_and_body(
    status: int, outbound: Outbound, listener: Listener
) -> None:
    """307 and 308 send the same request to the new place."""
    listener.answers = [web.Response(status=status, headers={"Location": "/moved"})]
    answer = await outbound.request("POST", listener.url("/old"), json={"n": 1}, timeout=5)
    assert answer.status == 204
    assert [request.path for request in listener.received] == ["/old", "/moved"]
    assert listener.bodies == [{"n": 1}, {"n": 1}]


async def test_other_redirects_are_answers(outbound: Outbound, listener: Listener) -> None:
    """303 would turn the notification into a GET, so the caller gets the 303."""
    listener.answers = [web.Response(status=303, headers={"Location": "/else"})]
    assert (await outbound.request("POST", listener.url(), json={}, timeout=5)).status == 303


async def test_redirects_in_a_circle_end(outbound: Outbound, listener: Listener) -> None:
    """A target that redirects to itself, or ever on, is given up after a few hops."""
    listener.default = web_redirect(lambda request: request.path)
    with pytest.raises(TargetUnreachable, match="circle"):
        await outbound.request("POST", listener.url("/a"), json={}, timeout=5)
    listener.default = web_redirect(lambda request: request.path + "x")
    with pytest.raises(TargetUnreachable, match="too often"):
        await outbound.request("POST", listener.url("/b"), json={}, timeout=5)
    assert len(listener.received) == 1 + 6


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/", "http://[::1]/", "file:///x", "http://inside.example/"]
)
async def test_a_redirect_to_a_forbidden_target(target: str, listener: Listener) -> None:
    """Each hop is judged as the first one was, a name's address included."""
    client = Outbound(LOOPBACK_ALLOWED, resolver=Names(inside=["169.254.169.254"]))
    listener.answers = [web.Response(status=307, headers={"Location": target})]
    with pytest.raises(TargetRefused):
        await client.request("POST", listener.url(), json={}, timeout=5)
    await client.close()


async def test_a_token_stays_with_its_origin(listener: Listener) -> None:
    """The bearer token of the scope goes to the target, and to no other origin that it redirects to."""

    async def authorize(scope: str) -> str | None:
        return f"token-for-{scope}"

    client = Outbound(LOOPBACK_ALLOWED, authorize=authorize)
    async with Listener() as elsewhere:
        listener.answers = [
            web.Response(status=307, headers={"Location": "/same"}),
            web.Response(status=307, headers={"Location": elsewhere.url()}),
        ]
        await client.request("POST", listener.url(), json={}, timeout=5, scope="aimlec-cp")
    await client.close()
    tokens = [request.headers.get("Authorization") for request in listener.received + elsewhere.received]
    assert tokens == ["Bearer token-for-aimlec-cp", "Bearer token-for-aimlec-cp", None]


async def test_an_endless_answer_is_cut_off(outbound: Outbound, listener: Listener) -> None:
    """Of a body without end only `max_body` bytes are read, and the connection is closed on the rest."""
    sent = 0
    cut = asyncio.Event()

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 20))
                sent += 1 << 20
        except ConnectionError:
            cut.set()
            raise

    listener.answers = [pour]
    answer = await outbound.request("POST", listener.url(), json={}, timeout=30, max_body=1000)
    assert (answer.status, len(answer.body), answer.complete) == (200, 1000, False)
    await asyncio.wait_for(cut.wait(), 10)
    assert sent < 64 << 20


async def test_compressed_bodies_stay_compressed(outbound: Outbound, listener: Listener) -> None:
    """A small compressed body cannot unfold into a large one here."""
    packed = b"\x1f\x8b-as-it-came"
    listener.answers = [web.Response(body=packed, headers={"Content-Encoding": "gzip"})]
    answer = await outbound.request("GET", listener.url(), timeout=5)
    assert answer.body == packed
    assert listener.received[0].headers["Accept-Encoding"] == "identity"


async def test_no_body_is_waited_for_if_none_is_wanted(outbound: Outbound, listener: Listener) -> None:
    """With `max_body=0` the status is enough, however long the target keeps its body back."""
    listener.answers = [hang_after_headers]
    answer = await outbound.request("POST", listener.url(), json={}, timeout=30, max_body=0)
    assert (answer.status, answer.body, answer.complete) == (200, b"", False)


async def test_one_deadline_for_the_whole_call(outbound: Outbound, listener: Listener) -> None:
    """A target that answers its headers and then nothing is given up at the deadline."""
    listener.answers = [hang_after_headers]
    with pytest.raises(TargetUnreachable, match="in time"):
        await outbound.request("POST", listener.url(), json={}, timeout=0.2)


async def test_a_closed_port_says_nothing_about_us(outbound: Outbound, listener: Listener) -> None:
    """The error of a call that failed names neither address nor system error."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TargetUnreachable) as caught:
            await outbound.request("POST", f"http://127.0.0.1:{port}/secret", json={}, timeout=5)
    assert str(caught.value) == "the target cannot be reached"


async def test_no_cookies_are_kept(outbound: Outbound, listener: Listener) -> None:
    """What a target sets is not sent back to it."""
    listener.answers = [web.Response(headers={"Set-Cookie": "id=1"})]
    await outbound.request("GET", listener.url(), timeout=5)
    await outbound.request("GET", listener.url(), timeout=5)
    assert "Cookie" not in listener.received[1].headers


def web_redirect(
    place: Callable[[web.Request], str],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler that redirects to `place(request)`."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": place(request)})

    return redirect


async def hang_after_headers(request: web.Request) -> web.StreamResponse:
    """A handler that promises a body and never sends it."""
    response = web.StreamResponse(headers={"Content-Length": "10"})
    await response.prepare(request)
    await asyncio.Event().wait()
    return response

"""Requests of the SDK: tokens, retries and refusals, against a real server."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from aimle_client.errors import (
    Conflict,
    Forbidden,
    NotFound,
    RequestRefused,
    ServerUnavailable,
    Unauthorized,
    UnexpectedAnswer,
)
from aimle_client.http import ClientCredentials, Connection, RetryPolicy, open_session
from aimle_client.tokens import TokenProvider
from sbi.errors import InvalidParam, InvalidRequest
from sbi.problems import response_of
from tests.support import Listener, ManualClock, eventually

QUICK = RetryPolicy(attempts=3, first=0.001, longest=2, jitter=lambda: 0.0)


class TokenEndpoint:
    """A real token endpoint whose tokens are numbered."""

    def __init__(self) -> None:
        self.issued = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.refusal: tuple[int, dict[str, str]] | None = None

    async def handle(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.requests.append((request.headers["Authorization"], {k: str(v) for k, v in form.items()}))
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        self.issued += 1
        return web.json_response({"access_token": f"token-{self.issued}", "expires_in": 100})


@contextlib.asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[TokenEndpoint, str]]:
    """A token endpoint and its URL."""
    tokens = TokenEndpoint()
    app = web.Application()
    app.router.add_post("/token", tokens.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield tokens, f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    finally:
        await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The session of the SDK."""
    async with open_session() as opened:
        yield opened


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A server that answers 204 unless told otherwise."""
    async with Listener() as server:
        yield server


def connect(listener: Listener, session: aiohttp.ClientSession, **kwargs: object) -> Connection:
    """A connection to the listener that loses no time between attempts."""
    return Connection(listener.url(""), session, retry=QUICK, **kwargs)  # type: ignore[arg-type]


def provider(session: aiohttp.ClientSession, url: str, clock: ManualClock) -> TokenProvider:
    """Tokens for `ue 7`, whose name and secret need encoding."""
    return TokenProvider(session, url, ClientCredentials("ue 7", "s:cr%t"), clock)


async def test_a_request_carries_a_token_of_its_apis_scope(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """The token is asked for with client credentials and the base name of the API as scope."""
    async with endpoint() as (tokens, url):
        connection = connect(listener, session, tokens=provider(session, url, ManualClock()))
        await connection.request("GET", "/aimles-disc/v1/clients")
    authorization, form = tokens.requests[0]
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"ue+7:s%3Acr%25t"
    assert form == {"grant_type": "client_credentials", "scope": "aimles-disc"}
    assert listener.received[0].headers["Authorization"] == "Bearer token-1"


async def test_a_token_is_kept_until_shortly_before_it_expires(session: aiohttp.ClientSession) -> None:
    """One token serves all requests of its scope, and is replaced 30 s before its end."""
    clock = ManualClock()
    async with endpoint() as (tokens, url):
        kept = provider(session, url, clock)
        first = await asyncio.gather(*(kept.token("aimles-sel") for _ in range(5)))
        clock.advance(69)
        assert {*first, await kept.token("aimles-sel")} == {"token-1"}
        clock.advance(2)
        assert await kept.token("aimles-sel") == "token-2"
        assert await kept.token("aimles-disc") == "token-3"
    assert tokens.issued == 3


async def test_a_token_that_is_refused_is_replaced_once(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """After 401 the request is repeated with a new token; a second 401 is the caller's to know."""
    async with endpoint() as (_, url):
        connection = connect(listener, session, tokens=provider(session, url, ManualClock()))
        listener.answers = [401]
        await connection.request("POST", "/aimles-sel/v1/select", body={})
        assert [r.headers["Authorization"] for r in listener.received] == ["Bearer token-1", "Bearer token-2"]
        listener.answers = [401, 401]
        with pytest.raises(Unauthorized):
            await connection.request("POST", "/aimles-sel/v1/select", body={})


async def test_wrong_credentials_are_named_and_never_shown(session: aiohttp.ClientSession) -> None:
    """A refusal of the token endpoint carries its error code, and neither it nor repr has the secret."""
    async with endpoint() as (tokens, url):
        tokens.refusal = 401, {"error": "invalid_client"}
        with pytest.raises(Unauthorized) as caught:
            await provider(session, url, ManualClock()).token("aimles-sel")
    assert caught.value.cause == "invalid_client"
    assert "s:cr%t" not in repr(caught.value) + repr(ClientCredentials("ue 7", "s:cr%t"))


async def test_a_scope_that_is_not_granted_is_named(session: aiohttp.ClientSession) -> None:
    """Who may not have a scope is Forbidden, and learns which one it was."""
    async with endpoint() as (tokens, url):
        tokens.refusal = 400, {"error": "invalid_scope", "error_description": "not this one"}
        with pytest.raises(Forbidden, match="the client may not have the scope mlr-mlmm") as caught:
            await provider(session, url, ManualClock()).token("mlr-mlmm")
    assert caught.value.cause == "invalid_scope"


async def test_a_token_endpoint_that_is_down_is_a_server_that_is_down(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """A request whose token cannot be fetched was not sent, so it is tried again and then given up."""
    async with endpoint() as (tokens, url):
        tokens.refusal = 502, {}
        connection = connect(listener, session, tokens=provider(session, url, ManualClock()))
        with pytest.raises(ServerUnavailable, match="token endpoint answers 502"):
            await connection.request("POST", "/aimles-sel/v1/select", body={})
    assert len(tokens.requests) == QUICK.attempts
    assert not listener.received


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRefused),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, NotFound),
        (500, RequestRefused),
    ],
)
async def test_a_refusal_has_its_own_class(
    session: aiohttp.ClientSession, listener: Listener, status: int, kind: type[RequestRefused]
) -> None:
    """Each status becomes one class of the tree, even where the body is no ProblemDetails."""
    listener.answers = [web.Response(status=status, text="<html>")]
    with pytest.raises(kind) as caught:
        await connect(listener, session).request("GET", "/aimles-disc/v1/clients")
    assert type(caught.value) is kind
    assert caught.value.status == status


async def test_a_refusal_says_which_attribute_is_wrong(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """cause, detail and invalidParams of the ProblemDetails reach the caller."""
    listener.answers = [response_of(InvalidRequest.of("/reqNum", "not a number", cause="BAD"))]
    with pytest.raises(RequestRefused) as caught:
        await connect(listener, session).request("POST", "/aimles-sel/v1/select", body={})
    assert caught.value.cause == "BAD"
    assert caught.value.detail == "/reqNum: not a number"
    assert caught.value.invalid_params == (InvalidParam("/reqNum", "not a number"),)


async def test_idempotent_requests_are_repeated(session: aiohttp.ClientSession, listener: Listener) -> None:
    """GET, PUT and DELETE survive a gateway's hiccup."""
    for method in ("GET", "PUT", "DELETE"):
        listener.answers = [502, 503]
        answer = await connect(listener, session).request(method, "/aimles-reg/v1/x")
        assert answer.status == 204
    assert len(listener.received) == 9


async def test_a_post_is_not_repeated_when_it_may_have_been_processed(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """A POST that fails without a word about when to come again is sent once."""
    listener.answers = [502]
    with pytest.raises(ServerUnavailable):
        await connect(listener, session).request("POST", "/aimles-sel/v1/select", body={})
    assert len(listener.received) == 1


async def test_a_post_waits_as_long_as_the_server_asks(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """503 with Retry-After means not processed: the POST is repeated, and not before that time."""
    clock = ManualClock()
    listener.answers = [web.Response(status=503, headers={"Retry-After": "2"})]
    request = asyncio.create_task(
        connect(listener, session, clock=clock).request("POST", "/aimles-sel/v1/select", body={})
    )
    await eventually(lambda: clock._sleepers)
    clock.advance(1.9)
    assert not clock._sleepers[0][1].is_set()
    clock.advance(0.1)
    assert (await request).status == 204


async def test_a_server_that_asks_for_too_much_patience_is_not_waited_for(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """A Retry-After beyond the policy is handed to the caller."""
    listener.answers = [web.Response(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(ServerUnavailable) as caught:
        await connect(listener, session).request("GET", "/aimles-disc/v1/clients")
    assert caught.value.retry_after == 3600


async def test_nobody_there(session: aiohttp.ClientSession) -> None:
    """A port without a listener is ServerUnavailable, and the message says whose it would be, and no more."""
    async with Listener() as gone:
        url = gone.url("")
    connection = Connection(url, session, retry=QUICK)
    with pytest.raises(ServerUnavailable) as caught:
        await connection.request("POST", "/aimles-sel/v1/select", body={})
    port = url.removeprefix("http://")
    assert str(caught.value) == f"the server at {port} cannot be reached: connection refused"


@pytest.mark.parametrize("answer", [web.Response(text="hello"), web.Response(status=304)])
async def test_something_else_than_an_aimle_server(
    session: aiohttp.ClientSession, listener: Listener, answer: web.Response
) -> None:
    """An answer that the API does not have is told apart from a refusal."""
    listener.answers = [answer]
    with pytest.raises(UnexpectedAnswer):
        await connect(listener, session).request("GET", "/aimles-disc/v1/clients")


async def test_a_notification_has_no_token_and_is_repeated(
    session: aiohttp.ClientSession, listener: Listener
) -> None:
    """The address is the permission; delivery is at least once."""
    async with endpoint() as (tokens, url):
        connection = connect(listener, session, tokens=provider(session, url, ManualClock()))
        listener.answers = [502]
        await connection.notify(listener.url("/participants/key/notifications"), {"vaSrvId": "s"})
    assert tokens.issued == 0
    assert listener.bodies == [{"vaSrvId": "s"}, {"vaSrvId": "s"}]
    assert all("Authorization" not in request.headers for request in listener.received)


def test_the_pause_between_attempts_grows_up_to_a_limit() -> None:
    """0.5, 1, 2, 4, 4... seconds with full jitter, half of it with none; then no more attempts."""
    policy = RetryPolicy(attempts=6, first=0.5, longest=4, jitter=lambda: 1.0)
    assert [policy.delay(n, None) for n in range(1, 7)] == [0.5, 1, 2, 4, 4, None]
    assert RetryPolicy(jitter=lambda: 0.0).delay(1, None) == 0.25
    assert policy.delay(1, 3) == 3

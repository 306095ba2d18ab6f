"""The built-in issuer over HTTP, with a real database: RFC 6749 4.4 and 5.2, and who is slowed down."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, encode_basic_auth, web
from aiohttp.test_utils import TestServer
from bson import encode
from cryptography.hazmat.primitives.asymmetric import ec

from aimle_server.apis import oauth
from ml_repository.database import Database
from ml_repository.oauth_clients import OAuthClients
from sbi.auth import OpenAccess
from sbi.clock import Clock
from sbi.errors import Conflict
from sbi.issuer import TokenIssuer
from sbi.keys import UrlKeys
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.problems import problem_middleware
from sbi.tokens import TokenAuthenticator
from tests.support import ManualClock, eventually

SCOPES = ["aimles-disc", "aimles-sel"]
GRANT = {"grant_type": "client_credentials"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Credentials as a header."""
    return {"Authorization": encode_basic_auth(client_id, secret)}


@pytest.fixture
def clock() -> Clock:
    """The service's clock; stands still, so that penalties last until a test ends them."""
    return ManualClock()


@pytest.fixture
async def clients(database: Database) -> OAuthClients:
    """The store that the server asks."""
    return OAuthClients(database)


@pytest.fixture
async def secret(clients: OAuthClients) -> str:
    """The secret of the client `val 1`, whose id needs escaping."""
    return await clients.add("val 1", SCOPES, "acme")


@pytest.fixture
async def session(clients: OAuthClients, clock: Clock) -> AsyncIterator[ClientSession]:
    """Requests to a server with the token endpoint."""
    app = web.Application(middlewares=[problem_middleware])
    app[AUTHENTICATOR], app[PUBLIC_URL] = OpenAccess(), ""
    issuer = TokenIssuer(ec.generate_private_key(ec.SECP256R1()), "aimle", "aimle", 600, clock)
    app[oauth.TOKEN_SERVICE] = oauth.TokenService(issuer, clients, clock)
    mount(app, [oauth.API])
    async with TestServer(app) as server, ClientSession(server.make_url("/")) as session:
        yield session


async def refused(session: ClientSession, status: int, **request: Any) -> tuple[str, dict[str, str]]:
    """The error code and headers of a refusal, which has the shape of RFC 6749 5.2."""
    async with session.post("oauth2/token", **request) as response:
        body = await response.json()
        assert response.status == status, body
        assert response.headers["Cache-Control"] == "no-store"
        assert set(body) == {"error", "error_description"}
        return body["error"], dict(response.headers)


async def test_token_works(session: ClientSession, secret: str, clock: Clock) -> None:
    """A token from the endpoint passes the check of whoever fetches the issuer's keys."""
    async with session.post("oauth2/token", data=GRANT, headers=basic("val 1", secret)) as response:
        body = await response.json()
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    assert (body["token_type"], body["expires_in"], body["scope"]) == (
        "Bearer",
        600,
        "aimles-disc aimles-sel",
    )
    async with session.get("oauth2/jwks") as response:
        keys = UrlKeys(session, str(response.url), clock)
    checker = TokenAuthenticator(keys, "aimle", "aimle", clock)
    caller = await checker.authenticate(f"Bearer {body['access_token']}", "aimles-disc")
    assert (caller.subject, caller.scopes, caller.vendor) == ("val 1", set(SCOPES), "acme")


async def test_credentials_in_body(session: ClientSession, secret: str) -> None:
    """A client may send its credentials in the form, and ask for a part of its scopes."""
    form = GRANT | {"client_id": "val 1", "client_secret": secret, "scope": "aimles-sel"}
    async with session.post("oauth2/token", data=form) as response:
        assert (await response.json())["scope"] == "aimles-sel"


async def test_escaped_basic(session: ClientSession, secret: str) -> None:
    """Id and secret are form-encoded inside Basic (RFC 6749 2.3.1)."""
    header = "Basic " + b64encode(f"val+1:{secret}".encode()).decode()
    async with session.post("oauth2/token", data=GRANT, headers={"Authorization": header}) as response:
        assert response.status == 200


@pytest.mark.parametrize("client_id", ["val 1", "nobody"])
async def test_wrong_secret(session: ClientSession, secret: str, clock: ManualClock, client_id: str) -> None:
    """A wrong secret and an unknown client get the same answer, a while later."""
    post = asyncio.create_task(refused(session, 401, data=GRANT, headers=basic(client_id, "wrong")))
    await eventually(lambda: bool(clock._sleepers))
    assert not post.done()
    clock.advance(oauth.PENALTY_SECONDS)
    error, headers = await post
    assert error == "invalid_client"
    assert headers["WWW-Authenticate"].startswith("Basic")


async def test_guessing_is_limited(session: ClientSession, secret: str, clock: ManualClock) -> None:
    """An address that guesses waits for its answers; other clients are served meanwhile, and itself later."""
    form = GRANT | {"client_id": "val 1", "client_secret": "wrong"}
    guesses = [asyncio.create_task(refused(session, 401, data=form)) for _ in range(oauth.PENALTIES)]
    await eventually(lambda: len(clock._sleepers) == oauth.PENALTIES)
    error, headers = await refused(session, 429, data=form)
    assert (error, headers["Retry-After"]) == ("temporarily_unavailable", "1")
    other = asyncio.create_task(refused(session, 401, data=form | {"client_id": "other"}))
    await eventually(lambda: len(clock._sleepers) == oauth.PENALTIES + 1)
    clock.advance(oauth.PENALTY_SECONDS)
    await asyncio.gather(other, *guesses)
    async with session.post("oauth2/token", data=GRANT, headers=basic("val 1", secret)) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"scope": "mlr-store"}, 400, "invalid_scope"),
        ({"scope": "aimles-disc mlr-store"}, 400, "invalid_scope"),
        ({"scope": " "}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"padding": "x" * 20_000}, 413, "invalid_request"),
        ({f"field{number}": "x" for number in range(30)}, 400, "invalid_request"),
    ],
)
async def test_refused_forms(
    session: ClientSession, secret: str, changes: dict[str, str], status: int, code: str
) -> None:
    """A form that asks for the wrong thing is refused with the code of RFC 6749 5.2."""
    form = GRANT | {"client_id": "val 1", "client_secret": secret} | changes
    assert (await refused(session, status, data=form))[0] == code


FORM_TYPE = {"Content-Type": oauth.FORM}


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"json": GRANT}, 400, "invalid_request"),
        ({"data": b"scope=a&scope=b", "headers": FORM_TYPE}, 400, "invalid_request"),
        ({"data": b"scope=%ff", "headers": FORM_TYPE}, 400, "invalid_request"),
        ({"data": b"\xff=1", "headers": FORM_TYPE}, 400, "invalid_request"),
        ({"data": GRANT}, 401, "invalid_client"),
        ({"data": GRANT, "headers": {"Authorization": "Basic !"}}, 401, "invalid_client"),
        ({"data": GRANT, "headers": {"Authorization": "Basic /w=="}}, 401, "invalid_client"),
        ({"data": GRANT, "headers": {"Authorization": "Bearer x"}}, 401, "invalid_client"),
        ({"data": GRANT | {"client_secret": "x"}, "headers": basic("a", "b")}, 400, "invalid_request"),
        ({"data": GRANT | {"client_id": "x"}, "headers": basic("a", "b")}, 400, "invalid_request"),
    ],
)
async def test_refused_requests(
    session: ClientSession, request_: dict[str, Any], status: int, code: str
) -> None:
    """A request that is no form, or whose client is not to be told, is refused as RFC 6749 says."""
    assert (await refused(session, status, **request_))[0] == code


async def test_another_issuer() -> None:
    """A server whose tokens come from elsewhere has neither endpoint."""
    app = web.Application(middlewares=[problem_middleware])
    app[AUTHENTICATOR], app[PUBLIC_URL] = OpenAccess(), ""
    mount(app, [oauth.API])
    async with TestServer(app) as server, ClientSession(server.make_url("/")) as session:
        for response in (await session.post("oauth2/token", data=GRANT), await session.get("oauth2/jwks")):
            assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_wrong_method(session: ClientSession) -> None:
    """The token endpoint takes POST only."""
    async with session.get("oauth2/token") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_secret_is_not_stored(clients: OAuthClients, secret: str, database: Database) -> None:
    """The secret is nowhere in the database, and two clients' hashes differ even with the same secret."""
    documents = [document async for document in database["oauth_clients"].find()]
    assert len(documents) == 1
    assert secret.encode() not in b"".join(encode(document) for document in documents)
    assert (await clients.authenticate("val 1", secret)) is not None


async def test_store(clients: OAuthClients, secret: str) -> None:
    """A client's id is taken once; removed, it is unknown."""
    with pytest.raises(Conflict, match="val 1"):
        await clients.add("val 1", SCOPES)
    assert [client.client_id for client in await clients.all()] == ["val 1"]
    assert await clients.remove("val 1")
    assert not await clients.remove("val 1")
    assert await clients.authenticate("val 1", secret) is None


async def test_unknown_client_takes_as_long(clients: OAuthClients, secret: str) -> None:
    """The time of a refusal does not tell whether the client exists."""

    async def fastest(client_id: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            await clients.authenticate(client_id, "wrong")
            times.append(time.perf_counter() - started)
        return min(times)

    # Without the hash an unknown client would be answered some ten times faster.
    assert await fastest("nobody") > await fastest("val 1") / 3

"""Tokens: which are refused and with what, where keys come from, and the built-in issuer.

Keys, signatures and issuers are real: key sets come over HTTP from a server of their own.
"""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Forbidden, Unauthenticated, Unavailable
from sbi.issuer import TokenIssuer, load_or_create_key
from sbi.keys import MAX_AGE, MIN_INTERVAL, FileKeys, GivenKeys, KeySetError, UrlKeys, parse_keys
from sbi.tokens import CACHE_SECONDS, LEEWAY, TokenAuthenticator

ISSUER, AUDIENCE, SCOPE = "https://issuer.example.com", "aimle", "aimles-disc"
RSA_KEY = rsa.generate_private_key(65537, 2048)


class MovedClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        """Start at a fixed moment."""
        self.moment = datetime(2026, 11, 22, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment set last."""
        return self.moment

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovedClock:
    """The one clock of issuer and checker."""
    return MovedClock()


def issuer_at(clock: Clock) -> TokenIssuer:
    """An issuer with a key of its own."""
    return TokenIssuer(ec.generate_private_key(ec.SECP256R1()), ISSUER, AUDIENCE, 600, clock)


@pytest.fixture
def issuer(clock: MovedClock) -> TokenIssuer:
    """The issuer that `checker` trusts, besides RSA_KEY."""
    return issuer_at(clock)


def public_pem() -> bytes:
    """What an attacker has of RSA_KEY."""
    return RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def rsa_jwk(kid: str = "rsa", **members: str) -> dict[str, Any]:
    """RSA_KEY's public part as a JWK."""
    return jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True) | {"kid": kid} | members


@pytest.fixture
def checker(issuer: TokenIssuer, clock: MovedClock) -> TokenAuthenticator:
    """Accepts the issuer's ES256 key and RSA_KEY."""
    keys = GivenKeys({"keys": [*issuer.jwks()["keys"], rsa_jwk()]})
    return TokenAuthenticator(keys, ISSUER, AUDIENCE, clock)


def claims_at(clock: Clock, **changes: Any) -> dict[str, Any]:
    """Claims that pass, with changes; None takes one away."""
    now = int(clock.now().timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "val-1", "iat": now, "exp": now + 600, "scope": SCOPE}
    return {name: value for name, value in (claims | changes).items() if value is not None}


def signed(claims: dict[str, Any], kid: str | None = "rsa") -> str:
    """A token signed with RSA_KEY."""
    return jwt.encode(claims, RSA_KEY, algorithm="RS256", headers={"kid": kid} if kid else None)


def unsigned(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None = None) -> str:
    """A token as an attacker writes it by hand: no signature, or an HMAC."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    body = b".".join(parts)
    mac = hmac.digest(secret, body, hashlib.sha256) if secret else b""
    return (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


async def refusal(checker: TokenAuthenticator, token: str) -> str:
    """Why a token is refused; the reason never repeats a part of it."""
    with pytest.raises(Unauthenticated) as caught:
        await checker.authenticate(f"Bearer {token}", SCOPE)
    assert all(part not in caught.value.detail for part in token.split(".") if part)
    return caught.value.detail


async def test_good_token(checker: TokenAuthenticator, issuer: TokenIssuer) -> None:
    """A token of the issuer speaks for its subject, with its scopes and vendor."""
    token, expires_in = issuer.issue("val-1", [SCOPE, "aimles-sel"], vendor="acme")
    caller = await checker.authenticate(f"bearer {token}", SCOPE)
    assert caller == Caller("val-1", frozenset({SCOPE, "aimles-sel"}), "acme")
    assert expires_in == 600


@pytest.mark.parametrize("scope", [f"{SCOPE} other", [SCOPE, "other"]])
async def test_scope_forms(checker: TokenAuthenticator, clock: MovedClock, scope: Any) -> None:
    """Scopes are taken as a list in one string and as a JSON list, from RS256 tokens too."""
    caller = await checker.authenticate(f"Bearer {signed(claims_at(clock, scope=scope))}", SCOPE)
    assert caller.scopes == {SCOPE, "other"}


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Bearer x.y", "Bearer ü.ü.ü"]
)
async def test_no_token(checker: TokenAuthenticator, header: str | None) -> None:
    """A header without a readable token is the caller's missing identity, not our failure."""
    with pytest.raises(Unauthenticated):
        await checker.authenticate(header, SCOPE)


async def test_forged_signature(checker: TokenAuthenticator, clock: MovedClock, issuer: TokenIssuer) -> None:
    """A token signed with another key under a known key id is refused, and so is a changed one."""
    other = rsa.generate_private_key(65537, 2048)
    forged = jwt.encode(claims_at(clock), other, algorithm="RS256", headers={"kid": "rsa"})
    assert await refusal(checker, forged) == "the token is not valid"
    head, _, signature = signed(claims_at(clock)).split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims_at(clock, sub="admin")).encode()).rstrip(b"=").decode()
    await refusal(checker, f"{head}.{body}.{signature}")
    kid = issuer.jwks()["keys"][0]["kid"]
    assert await refusal(checker, signed(claims_at(clock), kid=kid)) == "the token is not valid"


@pytest.mark.parametrize("alg", ["none", "None", "NONE"])
async def test_alg_none(checker: TokenAuthenticator, clock: MovedClock, alg: str) -> None:
    """A token that says it needs no signature is refused."""
    await refusal(checker, unsigned({"alg": alg, "typ": "JWT", "kid": "rsa"}, claims_at(clock)))


async def test_public_key_as_secret(checker: TokenAuthenticator, clock: MovedClock) -> None:
    """A token whose HMAC was made with the public key, which everybody has, is refused."""
    header = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}
    await refusal(checker, unsigned(header, claims_at(clock), public_pem()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://other.example.com"}, "the token is from another issuer"),
        ({"aud": "other"}, "the token is for another audience"),
        ({"sub": None}, "the token has no sub"),
        ({"exp": None}, "the token has no exp"),
        ({"iss": None}, "the token has no iss"),
        ({"aud": None}, "the token has no aud"),
        ({"sub": ""}, "the token's claims are malformed"),
        ({"sub": 7}, "the token is not valid"),
        ({"exp": "never"}, "the token's claims are malformed"),
        ({"exp": float("nan")}, "the token's claims are malformed"),
        ({"nbf": True}, "the token's claims are malformed"),
        ({"scope": {"a": 1}}, "the token's claims are malformed"),
        ({"scope": [1]}, "the token's claims are malformed"),
    ],
)
async def test_claims(
    checker: TokenAuthenticator, clock: MovedClock, changes: dict[str, Any], reason: str
) -> None:
    """A well-signed token for somebody else or without a claim that we need is refused, and says why."""
    assert await refusal(checker, signed(claims_at(clock, **changes))) == reason


async def test_unknown_key(checker: TokenAuthenticator, clock: MovedClock) -> None:
    """A token that names no key, or one that the issuer does not have, is refused."""
    for kid in (None, "made-up"):
        token = signed(claims_at(clock), kid=kid)
        assert await refusal(checker, token) == "the token is not signed with a key of the issuer"


async def test_expiry(checker: TokenAuthenticator, issuer: TokenIssuer, clock: MovedClock) -> None:
    """A token ends on time, also when its signature was checked before."""
    token, _ = issuer.issue("val-1", [SCOPE])
    await checker.authenticate(f"Bearer {token}", SCOPE)
    clock.move(599)
    await checker.authenticate(f"Bearer {token}", SCOPE)
    clock.move(1)
    assert await refusal(checker, token) == "the token has expired"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_not_yet(checker: TokenAuthenticator, clock: MovedClock, claim: str) -> None:
    """A token from the future is refused, but clocks may differ a little."""
    now = int(clock.now().timestamp())
    token = signed(claims_at(clock, **{claim: now + int(LEEWAY) + 1}))
    assert await refusal(checker, token) == "the token is not valid yet"
    clock.move(1)
    await checker.authenticate(f"Bearer {token}", SCOPE)


@pytest.mark.parametrize("scope", [None, "", "aimles-discovery", "AIMLES-DISC", []])
async def test_missing_scope(checker: TokenAuthenticator, clock: MovedClock, scope: Any) -> None:
    """A valid token without the API's scope is a known caller who may not do this."""
    token = signed(claims_at(clock, scope=scope))
    for _ in range(2):
        with pytest.raises(Forbidden, match=SCOPE):
            await checker.authenticate(f"Bearer {token}", SCOPE)


class KeyServer:
    """An issuer's key set over HTTP, which a test changes or breaks."""

    def __init__(self, *issuers: TokenIssuer) -> None:
        """Serve the keys of `issuers`."""
        self.issuers = issuers
        self.status = 200
        self.asked = 0

    async def answer(self, _request: web.Request) -> web.Response:
        """The set as it is now."""
        self.asked += 1
        keys = [key for issuer in self.issuers for key in issuer.jwks()["keys"]]
        return web.json_response({"keys": keys}, status=self.status)

    def app(self) -> web.Application:
        """An application with the set at `/jwks`."""
        app = web.Application()
        app.router.add_get("/jwks", self.answer)
        return app


async def test_rotation_at_url(clock: MovedClock) -> None:
    """A new key is fetched when its first token comes; made-up key ids do not reach the issuer more often."""
    old, new = issuer_at(clock), issuer_at(clock)
    server = KeyServer(old)
    async with TestServer(server.app()) as site, ClientSession() as session:
        keys = UrlKeys(session, str(site.make_url("/jwks")), clock)
        checker = TokenAuthenticator(keys, ISSUER, AUDIENCE, clock)
        await checker.authenticate(f"Bearer {old.issue('a', [SCOPE])[0]}", SCOPE)
        server.issuers = (old, new)
        clock.move(MIN_INTERVAL.total_seconds())
        await checker.authenticate(f"Bearer {new.issue('b', [SCOPE])[0]}", SCOPE)
        assert server.asked == 2
        for number in range(20):
            await refusal(checker, signed(claims_at(clock), kid=f"made-up-{number}"))
        assert server.asked == 2


async def test_withdrawn_key_at_url(clock: MovedClock) -> None:
    """A key that the issuer withdraws stops working while its tokens still last."""
    old, new = issuer_at(clock), issuer_at(clock)
    server = KeyServer(old)
    async with TestServer(server.app()) as site, ClientSession() as session:
        keys = UrlKeys(session, str(site.make_url("/jwks")), clock)
        checker = TokenAuthenticator(keys, ISSUER, AUDIENCE, clock)
        token, _ = old.issue("a", [SCOPE])
        await checker.authenticate(f"Bearer {token}", SCOPE)
        server.issuers = (new,)
        clock.move(max(CACHE_SECONDS, MAX_AGE.total_seconds()))
        assert await refusal(checker, token) == "the token is not signed with a key of the issuer"


async def test_issuer_down(clock: MovedClock) -> None:
    """With the issuer down its known keys keep working, whether it answers wrongly or not at all."""
    issuer = issuer_at(clock)
    server = KeyServer(issuer)
    async with ClientSession() as session:
        async with TestServer(server.app()) as site:
            keys = UrlKeys(session, str(site.make_url("/jwks")), clock)
            checker = TokenAuthenticator(keys, ISSUER, AUDIENCE, clock)
            await checker.authenticate(f"Bearer {issuer.issue('a', [SCOPE])[0]}", SCOPE)
            server.status = 500
            clock.move(MAX_AGE.total_seconds())
            await checker.authenticate(f"Bearer {issuer.issue('a', [SCOPE])[0]}", SCOPE)
            assert server.asked == 2
        clock.move(MAX_AGE.total_seconds())
        await checker.authenticate(f"Bearer {issuer.issue('a', [SCOPE])[0]}", SCOPE)
        await refusal(checker, signed(claims_at(clock), kid="made-up"))


async def test_issuer_never_there(clock: MovedClock, unused_tcp_port: int) -> None:
    """Without any key set nobody can be told that the token is wrong: the caller is asked to come again."""
    async with ClientSession() as session:
        keys = UrlKeys(session, f"http://127.0.0.1:{unused_tcp_port}/jwks", clock)
        checker = TokenAuthenticator(keys, ISSUER, AUDIENCE, clock)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await checker.authenticate(f"Bearer {signed(claims_at(clock))}", SCOPE)


async def test_keys_in_a_file(clock: MovedClock, tmp_path: Path) -> None:
    """A replaced key file is used at once; a damaged one leaves the last good keys in place."""
    old, new = issuer_at(clock), issuer_at(clock)
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(old.jwks()))
    checker = TokenAuthenticator(FileKeys(path), ISSUER, AUDIENCE, clock)
    await checker.authenticate(f"Bearer {old.issue('a', [SCOPE])[0]}", SCOPE)
    replacement = tmp_path / "new.json"
    replacement.write_text(json.dumps(new.jwks()))
    replacement.rename(path)
    await checker.authenticate(f"Bearer {new.issue('b', [SCOPE])[0]}", SCOPE)
    await refusal(checker, old.issue("c", [SCOPE])[0])
    path.write_text("{")
    await checker.authenticate(f"Bearer {new.issue('d', [SCOPE])[0]}", SCOPE)
    path.unlink()
    await checker.authenticate(f"Bearer {new.issue('e', [SCOPE])[0]}", SCOPE)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}']
)
def test_useless_key_file(tmp_path: Path, content: str | None) -> None:
    """A server does not start on a key file that it could check nothing with."""
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeySetError, match=r"keys\.json"):
        FileKeys(path)


def test_only_signing_keys() -> None:
    """Symmetric, encryption, nameless and foreign keys of a set are passed over."""
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "alg": "HS256", "kid": "hs"}
    nameless = {name: value for name, value in rsa_jwk().items() if name != "kid"}
    others = [secret, nameless, {"kty": "new"}, 7, rsa_jwk("enc", use="enc"), rsa_jwk("r512", alg="RS512")]
    assert set(parse_keys({"keys": [*others, rsa_jwk()]})) == {"rsa"}
    with pytest.raises(KeySetError):
        parse_keys({"keys": [rsa_jwk()]}, ["ES256"])


class CountedKeys(GivenKeys):
    """Keys that count how often they are asked for."""

    asked = 0

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key, counted."""
        self.asked += 1
        return await super().find(kid)


async def test_signature_is_checked_once(issuer: TokenIssuer, clock: MovedClock) -> None:
    """A token that passed is not verified again at every request; one that was refused is not remembered."""
    keys = CountedKeys(issuer.jwks())
    checker = TokenAuthenticator(keys, ISSUER, AUDIENCE, clock)
    token, _ = issuer.issue("a", [SCOPE])
    for _ in range(10):
        await checker.authenticate(f"Bearer {token}", SCOPE)
    assert keys.asked == 1
    clock.move(CACHE_SECONDS)
    await checker.authenticate(f"Bearer {token}", SCOPE)
    assert keys.asked == 2
    for _ in range(2):
        await refusal(checker, token[:-4] + "AAAA")
    assert keys.asked == 4


def test_key_file_is_private_and_kept(tmp_path: Path) -> None:
    """The issuer's key is made once, for its owner's eyes only, and nothing is left beside it."""
    path = tmp_path / "data" / "key.pem"
    first, second = load_or_create_key(path), load_or_create_key(path)
    assert first.private_numbers() == second.private_numbers()
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["key.pem"]


def _private_value(path: Path) -> int:
    return load_or_create_key(path).private_numbers().private_value


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes of their own."""
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        yield pool


def test_processes_agree_on_the_key(tmp_path: Path, processes: ProcessPoolExecutor) -> None:
    """Processes that start together on an empty directory sign with the same key."""
    for number in range(5):
        path = tmp_path / str(number) / "key.pem"
        assert len(set(processes.map(_private_value, [path] * 8))) == 1


@pytest.mark.parametrize("content", [b"", b"not a key", public_pem()])
def test_useless_private_key(tmp_path: Path, content: bytes) -> None:
    """A key file with something else in it is named and not replaced."""
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(KeySetError, match=r"key\.pem"):
        load_or_create_key(path)
    assert path.read_bytes() == content

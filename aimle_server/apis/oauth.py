"""The built-in issuer's endpoints: tokens for client credentials (RFC 6749 4.4) and the key set (RFC 7517).

Errors have the shape of RFC 6749 5.2, which OAuth libraries expect, and not that of ProblemDetails.

A wrong secret is answered after `PENALTY_SECONDS`. While `PENALTIES` such answers for one client are due to
one peer address, that address gets 429 for that client. So guessing goes at a few tries per second, and the
client itself, which calls from elsewhere, is not locked out. Behind a reverse proxy all peers share its
address: there the proxy should limit rates.
"""

import base64
import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import hdrs, web

from ml_repository.oauth_clients import OAuthClient, OAuthClients
from sbi.api import Api, Call, Operation, ok
from sbi.body import reading
from sbi.clock import Clock
from sbi.errors import NotFound
from sbi.issuer import TokenIssuer
from schemas.oauth import AccessTokenResponse, JsonWebKeySet

FORM = "application/x-www-form-urlencoded"
PENALTY_SECONDS = 1.0
PENALTIES = 4
_MAX_FORM_BYTES = 16 * 1024
_MAX_FIELDS = 20


class OAuthError(Exception):
    """A refusal of RFC 6749 5.2; `error` is its code, `description` is shown to the client."""

    def __init__(self, error: str, description: str, status: int = 400, **headers: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers


class TokenService:
    """Checks a client's credentials and issues what it may have."""

    def __init__(self, issuer: TokenIssuer, clients: OAuthClients, clock: Clock) -> None:
        """Issue for the clients in `clients`."""
        self.issuer = issuer
        self._clients = clients
        self._clock = clock
        self._penalties: Counter[tuple[str, str]] = Counter()

    async def authenticate(self, client_id: str, secret: str, peer: str) -> OAuthClient:
        """The client with this secret; `peer` is the address that the request came from."""
        if self._penalties[peer, client_id] >= PENALTIES:
            raise OAuthError("temporarily_unavailable", "too many attempts", 429, **{hdrs.RETRY_AFTER: "1"})
        client = await self._clients.authenticate(client_id, secret)
        if client is None:
            await self._penalty(peer, client_id)
            raise _invalid_client("unknown client or wrong secret")
        return client

    def grant(self, client: OAuthClient, scope: str | None) -> dict[str, Any]:
        """A token for all of the client's scopes, or for those of them that it asks for."""
        wanted = client.scopes if scope is None else frozenset(scope.split())
        if not wanted or not wanted <= client.scopes:
            raise OAuthError("invalid_scope", "the client may not have this scope")
        token, expires_in = self.issuer.issue(client.client_id, wanted, client.vendor)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": expires_in,
            "scope": " ".join(sorted(wanted)),
        }

    async def _penalty(self, peer: str, client_id: str) -> None:
        self._penalties[peer, client_id] += 1
        try:
            await self._clock.sleep(PENALTY_SECONDS)
        finally:
            self._penalties[peer, client_id] -= 1
            self._penalties += Counter()  # drops what has come to zero


TOKEN_SERVICE = web.AppKey("token_service", TokenService)
"""Not in an application whose tokens come from another issuer."""


async def issue_token(call: Call) -> web.Response:
    """A token for a client's credentials."""
    service = _service(call)
    try:
        form = await _read_form(call.request)
        client_id, secret = _credentials(call.request.headers.get(hdrs.AUTHORIZATION), form)
        client = await service.authenticate(client_id, secret, call.request.remote or "")
        if form.get("grant_type") != "client_credentials":
            raise _wrong_grant(form.get("grant_type"))
        response = ok(service.grant(client, form.get("scope")))
    except OAuthError as error:
        response = _refusal(error)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers[hdrs.PRAGMA] = "no-cache"
    return response


async def get_keys(call: Call) -> web.Response:
    """The public keys with which others check our tokens."""
    response = ok(_service(call).issuer.jwks())
    response.headers[hdrs.CACHE_CONTROL] = "public, max-age=300"
    return response


def _service(call: Call) -> TokenService:
    service = call.request.config_dict.get(TOKEN_SERVICE)
    if service is None:
        raise NotFound("this server issues no tokens")
    return service


async def _read_form(request: web.Request) -> dict[str, str]:
    """The form's fields; a field without a value counts as left out (RFC 6749 3.2)."""
    if request.content_type != FORM:
        raise OAuthError("invalid_request", f"the body must be {FORM}")
    raw = bytearray()
    async with reading():
        async for chunk in request.content.iter_any():
            raw += chunk
            if len(raw) > _MAX_FORM_BYTES:
                raise OAuthError("invalid_request", "the body is too large", 413)
    try:
        pairs = parse_qsl(raw.decode(), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise OAuthError("invalid_request", "the body is not a form") from error
    if len(dict(pairs)) < len(pairs):
        raise OAuthError("invalid_request", "a parameter is there twice")
    return dict(pairs)


def _credentials(header: str | None, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from the header or from the body (RFC 6749 2.3.1), never from both."""
    if header is None:
        if "client_id" not in form or "client_secret" not in form:
            raise _invalid_client("the client must authenticate")
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise OAuthError("invalid_request", "the client authenticates twice")
    client_id, secret = _basic(header)
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "the body names another client")
    return client_id, secret


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise _invalid_client("the client must authenticate with Basic")
    return unquote_plus(client_id), unquote_plus(secret)


def _invalid_client(description: str) -> OAuthError:
    return OAuthError("invalid_client", description, 401, **{hdrs.WWW_AUTHENTICATE: 'Basic realm="aimle"'})


def _wrong_grant(grant_type: str | None) -> OAuthError:
    if grant_type is None:
        return OAuthError("invalid_request", "grant_type is missing")
    return OAuthError("unsupported_grant_type", "only client_credentials is supported")


def _refusal(error: OAuthError) -> web.Response:
    body = {"error": error.error, "error_description": error.description}
    return web.Response(
        status=error.status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers=error.headers,
    )


API = Api(
    name="OAuth",
    spec="AIMLE",
    version="1.0.0",
    base_path="/oauth2",
    extension=True,
    operations=(
        Operation(
            "POST",
            "/token",
            "IssueToken",
            issue_token,
            streams=FORM,
            answers={200: AccessTokenResponse()},
            capability=True,
            summary="Get a token for client credentials (RFC 6749 4.4)",
        ),
        Operation(
            "GET",
            "/jwks",
            "GetKeys",
            get_keys,
            answers={200: JsonWebKeySet()},
            capability=True,
            summary="Get the keys that tokens are signed with (RFC 7517)",
        ),
    ),
)

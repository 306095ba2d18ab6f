"""Who may call this server, and as whom it calls others: the settings' `[auth]` made into objects."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aimle_client.errors import AimleClientError
from aimle_client.http import open_session
from aimle_client.tokens import ClientCredentials, TokenProvider
from aimle_server.apis.oauth import TokenService
from aimle_server.settings import Settings
from ml_repository.oauth_clients import OAuthClients
from sbi.auth import Authenticator, OpenAccess
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from sbi.keys import FileKeys, GivenKeys, KeySource, UrlKeys
from sbi.outbound import TargetUnreachable
from sbi.tokens import TokenAuthenticator

_log = logging.getLogger("aimle.access")

Authorize = Callable[[str], Awaitable[str | None]]


@dataclass(frozen=True)
class Access:
    """What the application needs of `[auth]`.

    Attributes:
        authenticator: checks callers.
        token_service: the built-in token endpoint, where there is one.
        authorize: our own token for a scope, for the calls that we make; None: call without.
    """

    authenticator: Authenticator
    token_service: TokenService | None
    authorize: Authorize


@asynccontextmanager
async def open_access(settings: Settings, clients: OAuthClients, clock: Clock) -> AsyncIterator[Access]:
    """Access as the settings say."""
    auth = settings.auth
    if auth.insecure_no_auth:
        _log.warning("every request is taken without a token, from whoever reaches %s", settings.api_root)
        yield Access(OpenAccess(), None, _no_token)
    elif auth.mode == "builtin":
        key = await asyncio.to_thread(load_or_create_key, settings.key_file)
        issuer = TokenIssuer(key, settings.issuer, auth.audience, auth.token_lifetime, clock)
        keys = GivenKeys(issuer.jwks())
        authenticator = TokenAuthenticator(keys, settings.issuer, auth.audience, clock)
        yield Access(
            authenticator, TokenService(issuer, clients, clock), _OwnTokens(issuer, settings, clock).token
        )
    else:
        async with open_session() as session:
            keys_of_issuer: KeySource
            if auth.jwks_url:
                keys_of_issuer = UrlKeys(session, auth.jwks_url, clock, auth.algorithms)
            else:
                keys_of_issuer = await asyncio.to_thread(FileKeys, Path(auth.jwks_file), auth.algorithms)
            authenticator = TokenAuthenticator(keys_of_issuer, settings.issuer, auth.audience, clock)
            authorize: Authorize = _no_token
            if auth.client_id:
                credentials = ClientCredentials(auth.client_id, auth.client_secret)
                authorize = _from_issuer(TokenProvider(session, auth.token_url, credentials, clock))
            yield Access(authenticator, None, authorize)


class _OwnTokens:
    """Tokens that the built-in issuer makes for this server, one per scope, renewed at half of their life."""

    def __init__(self, issuer: TokenIssuer, settings: Settings, clock: Clock) -> None:
        self._issuer = issuer
        self._subject = settings.server.id
        self._clock = clock
        self._kept: dict[str, tuple[str, float, float]] = {}

    async def token(self, scope: str) -> str:
        """A token that is good for a while."""
        now = self._clock.now().timestamp()
        token, issued, renew_at = self._kept.get(scope, ("", 0.0, 0.0))
        if not issued <= now < renew_at:  # before `issued`, where the clock was set back, nobody takes it
            token, lifetime = self._issuer.issue(self._subject, [scope])
            self._kept[scope] = (token, now, now + lifetime / 2)
        return token


def _from_issuer(provider: TokenProvider) -> Authorize:
    async def authorize(scope: str) -> str:
        try:
            return await provider.token(scope)
        except AimleClientError as error:
            raise TargetUnreachable("the token issuer does not give us a token") from error

    return authorize


async def _no_token(_scope: str) -> str | None:
    return None

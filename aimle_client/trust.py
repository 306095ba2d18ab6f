"""Whose tokens open the APIs that an AIMLE client, or a node of split pipelines, serves."""

from dataclasses import dataclass

import aiohttp

from sbi.auth import Authenticator, OpenAccess
from sbi.clock import Clock
from sbi.keys import UrlKeys
from sbi.tokens import TokenAuthenticator


@dataclass(frozen=True)
class Trust:
    """Whose tokens open this client's APIs.

    Attributes:
        issuer: their `iss`.
        audience: their `aud`.
        jwks_url: where the issuer's keys are; empty: at the AIMLE server.
    """

    issuer: str = "aimle"
    audience: str = "aimle"
    jwks_url: str = ""


def authenticator(
    trust: Trust | None, server: str, session: aiohttp.ClientSession, clock: Clock
) -> Authenticator:
    """Checks the tokens of callers; `server` is the apiRoot of the AIMLE server. Without trust it takes everybody."""
    if trust is None:
        return OpenAccess()
    keys = UrlKeys(session, trust.jwks_url or f"{server}/oauth2/jwks", clock)
    return TokenAuthenticator(keys, trust.issuer, trust.audience, clock)

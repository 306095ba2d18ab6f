"""Whose tokens open the APIs that an AIMLE client, or a node of split pipelines, serves."""

from dataclasses import dataclass

from aimle_client.http import Connection
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


def authenticator(trust: Trust | None, connection: Connection, clock: Clock) -> Authenticator:
    """Checks the tokens of callers; the connection is that to the AIMLE server. Without trust it takes everybody."""
    if trust is None:
        return OpenAccess()
    keys = UrlKeys(connection.session, trust.jwks_url or f"{connection.server}/oauth2/jwks", clock)
    return TokenAuthenticator(keys, trust.issuer, trust.audience, clock)

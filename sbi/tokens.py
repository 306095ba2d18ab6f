"""Bearer tokens checked: signed JWTs with scopes (RFC 6750, RFC 9068; in an SBI: TS 29.500 13.4.1)."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import InvalidAudienceError, InvalidIssuerError, MissingRequiredClaimError, PyJWTError

from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Forbidden, Unauthenticated
from sbi.keys import KeySource

LEEWAY = 10.0
"""How far the issuer's clock may be ahead of ours, in s; an expired token gets none."""

CACHE_SIZE = 10_000
CACHE_SECONDS = 300.0
"""How long a checked signature is believed, so that withdrawing a key takes effect while its tokens last."""

# Times are checked here and not by PyJWT, because it asks the system's clock.
_OPTIONS: Any = {
    "require": ["exp", "iss", "aud", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}


@dataclass(frozen=True)
class _Verified:
    """What a token with a good signature says.

    Attributes:
        caller: whom it speaks for.
        starts: when it becomes valid, POSIX time in s; -inf when it does not say.
        expires: when it ends, POSIX time in s.
        checked: when its signature was verified, POSIX time in s.
    """

    caller: Caller
    starts: float
    expires: float
    checked: float


class TokenAuthenticator:
    """An `Authenticator` for JWTs of one issuer.

    A signature costs far more than the rest, so tokens that passed are remembered by their hash; their times
    and the scope are checked at every request.
    """

    def __init__(self, keys: KeySource, issuer: str, audience: str, clock: Clock) -> None:
        """Accept tokens that `issuer` made for `audience`, signed with one of `keys`."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._passed: OrderedDict[bytes, _Verified] = OrderedDict()

    async def authenticate(self, authorization: str | None, scope: str) -> Caller:
        """The caller that a bearer token speaks for.

        Raises:
            Unauthenticated: no token, or one that is forged, expired or for somebody else.
            Forbidden: a valid token without `scope`.
            Unavailable: the issuer's keys have never been fetched and cannot be now.
        """
        token = _bearer(authorization)
        now = self._clock.now().timestamp()
        digest = hashlib.sha256(token.encode()).digest()
        verified = self._passed.get(digest)
        if verified is None or not 0 <= now - verified.checked < CACHE_SECONDS:
            verified = _read(await self._claims(token), now)
        _check_times(verified, now)
        self._remember(digest, verified)
        if scope not in verified.caller.scopes:
            raise Forbidden(f"the token does not have the scope {scope}")
        return verified.caller

    async def _claims(self, token: str) -> Mapping[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.find(kid) if isinstance(kid, str) else None
            if key is None:
                raise Unauthenticated("the token is not signed with a key of the issuer")
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                options=_OPTIONS,
                issuer=self._issuer,
                audience=self._audience,
            )
        except PyJWTError as error:
            raise Unauthenticated(_reason(error)) from error

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._passed[digest] = verified
        self._passed.move_to_end(digest)
        if len(self._passed) > CACHE_SIZE:
            self._passed.popitem(last=False)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("a bearer token is required")
    if not token.isascii():
        raise Unauthenticated("the token is not valid")
    return token


def _read(claims: Mapping[str, Any], now: float) -> _Verified:
    """The claims in the types that they must have."""
    subject, scope, vendor = claims["sub"], claims.get("scope", ""), claims.get("vendor")
    scopes = scope.split() if isinstance(scope, str) else scope
    if not subject or not isinstance(scopes, list) or not all(isinstance(item, str) for item in scopes):
        raise Unauthenticated("the token's claims are malformed")
    caller = Caller(subject, frozenset(scopes), vendor if isinstance(vendor, str) else None)
    starts = max(_moment(claims.get(name, -math.inf)) for name in ("nbf", "iat"))
    return _Verified(caller, starts, _moment(claims["exp"]), now)


def _moment(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise Unauthenticated("the token's claims are malformed")
    return value


def _check_times(verified: _Verified, now: float) -> None:
    if now >= verified.expires:
        raise Unauthenticated("the token has expired")
    if verified.starts > now + LEEWAY:
        raise Unauthenticated("the token is not valid yet")


def _reason(error: PyJWTError) -> str:
    """General words: which check failed, nothing of the token."""
    match error:
        case InvalidIssuerError():
            return "the token is from another issuer"
        case InvalidAudienceError():
            return "the token is for another audience"
        case MissingRequiredClaimError():
            return f"the token has no {error.claim}"
        case _:
            return "the token is not valid"

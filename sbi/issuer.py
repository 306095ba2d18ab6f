"""The built-in token issuer: signed access tokens (RFC 9068's claims) with an ES256 key kept in a file."""

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from sbi.clock import Clock
from sbi.keys import KeySetError


class TokenIssuer:
    """Issues tokens that a `TokenAuthenticator` with the same issuer and audience accepts.

    Attributes:
        issuer: the tokens' `iss`.
        audience: the tokens' `aud`.
        lifetime: how long a token is valid, in s.
    """

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, issuer: str, audience: str, lifetime: int, clock: Clock
    ) -> None:
        """Sign with `key`, on the curve P-256."""
        self.issuer = issuer
        self.audience = audience
        self.lifetime = lifetime
        self._key = key
        self._clock = clock
        public: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self._jwk = public | {"alg": "ES256", "use": "sig", "kid": _thumbprint(public)}

    def jwks(self) -> dict[str, Any]:
        """The public key as a JWK set (RFC 7517)."""
        return {"keys": [self._jwk]}

    def issue(self, subject: str, scopes: Iterable[str], vendor: str | None = None) -> tuple[str, int]:
        """A token for `subject` that allows `scopes`, and for how many seconds it does."""
        now = int(self._clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            "client_id": subject,
            "iat": now,
            "exp": now + self.lifetime,
            "scope": " ".join(sorted(scopes)),
        }
        if vendor is not None:
            claims["vendor"] = vendor
        headers = {"kid": self._jwk["kid"], "typ": "at+jwt"}
        return jwt.encode(claims, self._key, algorithm="ES256", headers=headers), self.lifetime


def load_or_create_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in a PEM file, made on first use; processes that start together agree on one.

    Raises:
        KeySetError: the file cannot be read or made, or holds something else.
    """
    try:
        if not path.exists():
            _create_key(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeySetError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise KeySetError(f"{path}: not an unencrypted private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeySetError(f"{path}: not a P-256 key")
    return key


def _create_key(path: Path) -> None:
    """Write a key beside `path` and link it there: the first to link wins, and nobody reads half a key."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".issuer-key-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638: the same key always has the same `kid`, in every process."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

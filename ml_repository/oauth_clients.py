"""The built-in issuer's OAuth clients (RFC 6749 2): who may get a token, for which scopes.

A document is `{_id: client id, secretHash: {salt, hash}, scopes, vendor?}`. The secret itself is shown once,
when it is made, and kept nowhere.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from ml_repository.database import Database
from sbi.errors import Conflict

COLLECTION = "oauth_clients"
INDEXES: Mapping[str, Sequence[IndexModel]] = {COLLECTION: ()}
"""Found by `_id` only."""

_SECRET_BYTES = 32
# 16 MiB and some 30 ms. A secret is 32 random bytes, which no cost is needed to protect; the cost is for
# the operator who stores a weaker one.
_COST = {"n": 2**14, "r": 8, "p": 1}
_AT_ONCE = 2


@dataclass(frozen=True)
class OAuthClient:
    """A client that may ask for tokens.

    Attributes:
        client_id: its name, the `sub` of its tokens.
        scopes: the scopes it may ask for.
        vendor: the `vendor` of its tokens (TS 23.482 8.11.3), if any.
    """

    client_id: str
    scopes: frozenset[str]
    vendor: str | None = None


class OAuthClients:
    """The store of clients."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._clients = database[COLLECTION]
        self._hashing = asyncio.Semaphore(_AT_ONCE)
        self._nobody = {"salt": secrets.token_bytes(16), "hash": secrets.token_bytes(64)}

    async def add(self, client_id: str, scopes: Iterable[str], vendor: str | None = None) -> str:
        """Make a client and return its secret, which cannot be had again.

        Raises:
            Conflict: there is a client with this id.
        """
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        salt = secrets.token_bytes(16)
        hashed = {"salt": salt, "hash": await asyncio.to_thread(_hash, secret, salt)}
        document = {"_id": client_id, "secretHash": hashed, "scopes": sorted(scopes)}
        try:
            await self._clients.insert_one(document | ({"vendor": vendor} if vendor else {}))
        except DuplicateKeyError as error:
            raise Conflict(f"there is a client {client_id} already") from error
        return secret

    async def remove(self, client_id: str) -> bool:
        """Whether there was such a client; tokens that it has stay valid until they expire."""
        return (await self._clients.delete_one({"_id": client_id})).deleted_count == 1

    async def find(self, client_id: str) -> OAuthClient | None:
        """The client with this id."""
        document = await self._clients.find_one({"_id": client_id})
        return _client(document) if document else None

    async def all(self) -> list[OAuthClient]:
        """Every client, by id."""
        return [_client(document) async for document in self._clients.find().sort("_id")]

    async def authenticate(self, client_id: str, secret: str) -> OAuthClient | None:
        """The client that knows this secret, or None; an unknown client takes as long as a wrong secret."""
        document = await self._clients.find_one({"_id": client_id})
        stored = document["secretHash"] if document else self._nobody
        async with self._hashing:
            offered = await asyncio.to_thread(_hash, secret, stored["salt"])
        matches = hmac.compare_digest(offered, stored["hash"])
        return _client(document) if document and matches else None


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, **_COST, dklen=64)


def _client(document: Mapping[str, Any]) -> OAuthClient:
    return OAuthClient(document["_id"], frozenset(document["scopes"]), document.get("vendor"))

"""Where the keys come from that tokens are checked with: given, in a file, or at an issuer's URL (RFC 7517).

A set maps `kid` to a key. Only signing keys of the accepted algorithms get in, so that a symmetric or
encryption key in a set can never be taken for one.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from sbi.clock import Clock
from sbi.errors import Unavailable

_log = logging.getLogger("aimle.auth")

ALGORITHMS = ("RS256", "ES256")
"""Signatures that can be accepted at all; settings may narrow them."""

MAX_AGE = timedelta(minutes=5)
"""How long a fetched set is taken for current."""

MIN_INTERVAL = timedelta(seconds=10)
"""Least time between two fetches, so that tokens with made-up key ids do not reach the issuer."""

FETCH_SECONDS = 5.0
_MAX_BYTES = 256 * 1024

Keys = Mapping[str, PyJWK]


class KeySetError(Exception):
    """There is no usable key set where one should be."""


class KeySource(Protocol):
    """Finds the key that a token names."""

    async def find(self, kid: str) -> PyJWK | None:
        """The key with this id, or None.

        Raises:
            Unavailable: there is no key set to look in at the moment.
        """
        ...


def parse_keys(document: Any, algorithms: Iterable[str] = ALGORITHMS) -> Keys:
    """The usable keys of a JWK set; KeySetError when there are none."""
    entries = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, PyJWK] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = PyJWK(entry)
        except PyJWTError:
            continue  # a key type that we do not know does no harm to the others
        if key.key_id and key.algorithm_name in set(algorithms) & set(ALGORITHMS):
            keys[key.key_id] = key
    if not keys:
        raise KeySetError("the key set has no signing key of an accepted algorithm with a kid")
    return keys


class GivenKeys:
    """A set that never changes: the built-in issuer's own."""

    def __init__(self, document: Any) -> None:
        """Keys of a JWK set document."""
        self._keys = parse_keys(document)

    async def find(self, kid: str) -> PyJWK | None:
        """The key with this id, or None."""
        return self._keys.get(kid)


class FileKeys:
    """A set in a file that the operator replaces to rotate keys."""

    def __init__(self, path: Path, algorithms: Iterable[str] = ALGORITHMS) -> None:
        """Read the file; KeySetError when it is not there or not usable."""
        self._path = path
        self._algorithms = tuple(algorithms)
        self._keys, self._version = self._read()

    async def find(self, kid: str) -> PyJWK | None:
        """The key with this id in the file as it is now; a damaged file leaves the last good set in place."""
        try:
            if self._stat() != self._version:
                self._keys, self._version = self._read()
        except KeySetError as error:
            _log.warning("keys stay as they were: %s", error)
        return self._keys.get(kid)

    def _stat(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise KeySetError(f"{self._path}: {error.strerror}") from error
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[Keys, tuple[int, int, int]]:
        version = self._stat()  # before reading: a change in between is seen the next time
        try:
            return parse_keys(json.loads(self._path.read_bytes()), self._algorithms), version
        except (OSError, ValueError, KeySetError) as error:
            raise KeySetError(f"{self._path}: no usable key set") from error


class UrlKeys:
    """A set at an issuer's `jwks_uri`, fetched when it is old or does not have the key asked for."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, clock: Clock, algorithms: Iterable[str] = ALGORITHMS
    ) -> None:
        """Nothing is fetched before the first token comes."""
        self._session = session
        self._url = url
        self._clock = clock
        self._algorithms = tuple(algorithms)
        self._keys: Keys = {}
        self._fetched: datetime | None = None
        self._tried: datetime | None = None
        self._fetching = asyncio.Lock()

    async def find(self, kid: str) -> PyJWK | None:
        """The key with this id; with the issuer down, from the set as it was last fetched."""
        known = self._keys.get(kid)
        if known is not None and (self._fetching.locked() or not _older(self._fetched, MAX_AGE, self._clock)):
            return known
        async with self._fetching:
            if _older(self._tried, MIN_INTERVAL, self._clock):
                await self._fetch()
        if self._fetched is None:
            raise Unavailable("the issuer of the tokens does not answer")
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        self._tried = self._clock.now()
        try:
            self._keys = parse_keys(await self._download(), self._algorithms)
            self._fetched = self._tried
        except (aiohttp.ClientError, TimeoutError, ValueError, KeySetError) as error:
            _log.warning("could not fetch the issuer's keys: %s", type(error).__name__)

    async def _download(self) -> Any:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        async with self._session.get(self._url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise KeySetError(f"status {response.status}")
            raw = bytearray()
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > _MAX_BYTES:
                    raise KeySetError("too large")
        return json.loads(raw)


def _older(moment: datetime | None, age: timedelta, clock: Clock) -> bool:
    # A moment that is still to come is from before the clock was set back.
    return moment is None or not timedelta(0) <= clock.now() - moment < age

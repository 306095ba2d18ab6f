"""AIMLE client discovery (TS 23.482 8.8, AIMLES_AIMLEClientDiscovery)."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Any

from aimle_server.procedures.external import External
from aimle_server.procedures.matching import Candidate, criteria_tags, matches
from ml_repository.registrations import Registrations
from sbi.clock import Clock
from schemas.common import NO_FEATURES

Wire = Mapping[str, Any]

MAX_CLIENTS = 1000
"""The most clients in one answer, for a caller that asks for no number or for a larger one."""


class ClientDiscovery:
    """Finds the registered clients that fulfil ClientDiscCriteria.

    Args:
        registrations: where the clients are.
        clock: tells the time.
        external: the services that know what a registration does not say.
    """

    def __init__(self, registrations: Registrations, clock: Clock, external: External) -> None:
        self._registrations = registrations
        self._clock = clock
        self._external = external

    async def discover(self, criteria: Wire, number: int | None, features: str | None) -> dict[str, Any]:
        """The ClientDiscResp; without a match its list of clients is empty.

        Args:
            criteria: `filt-criteria`, a ClientDiscCriteria.
            number: `cl-number`, how many clients are enough.
            features: `supported-features`; where asked for, the answer tells that none is supported.
        """
        found = await self.candidates(criteria, MAX_CLIENTS if number is None else number)
        response: dict[str, Any] = {"clients": [candidate.client_id for candidate in found]}
        if found and criteria.get("clientTaskCap"):
            response["suppTasks"] = [criteria["clientTaskCap"]]
        if features is not None:
            response["suppFeats"] = NO_FEATURES
        return response

    async def candidates(self, criteria: Wire, limit: int, exclude: Collection[str] = ()) -> list[Candidate]:
        """Up to `limit` clients that fulfil the criteria, none of them in `exclude`."""
        limit = min(limit, MAX_CLIENTS)
        found: list[Candidate] = []
        async with aclosing(self.stream(criteria, limit, exclude)) as matching:
            while len(found) < limit and (candidate := await anext(matching, None)):
                found.append(candidate)
        return found

    async def stream(
        self, criteria: Wire, wanted: int, exclude: Collection[str] = ()
    ) -> AsyncGenerator[Candidate, None]:
        """The clients that fulfil the criteria, found only as far as the caller iterates, `wanted` at a time."""
        now = self._clock.now()
        registrations = self._registrations.candidates(criteria_tags(criteria), now, wanted)
        async with aclosing(registrations):
            async for registration in registrations:
                if registration["_id"] in exclude:
                    continue
                candidate = await matches(criteria, registration, now, self._external)
                if candidate is not None:
                    yield candidate

"""Who may take part in a training (TS 23.482 8.12.2.1 step 3): named members, and whoever fulfils the criteria."""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from aimle_server.hfl.training import Training
from aimle_server.procedures.external import External
from aimle_server.procedures.matching import (
    Candidate,
    candidate_of,
    fulfils_member_criteria,
    training_tags,
)
from ml_repository.registrations import Registrations
from sbi.clock import Clock

PASS_OVER = 60.0
"""Seconds for which a client that did not join, or stopped reporting, is not asked again: others come first."""


class Candidates:
    """Finds the clients that may take part in trainings.

    Args:
        registrations, external: who is registered, what other systems know.
    """

    def __init__(self, registrations: Registrations, external: External, clock: Clock) -> None:
        self._registrations = registrations
        self._external = external
        self._clock = clock
        self._passed_over: dict[tuple[str, str], float] = {}

    async def fits(
        self, training: Training, registration: Mapping[str, Any], now: datetime
    ) -> Candidate | None:
        """The client as a candidate: a named member when it is free, any other by the criteria."""
        if registration["_id"] in training.members:
            return candidate_of(registration, None, now)
        criteria = training.request.get("memSelCrit")
        datasets = training.request["datasetId"]
        return await fulfils_member_criteria(criteria, datasets, registration, now, self._external)

    def pass_over(self, training: Training, client_ids: Iterable[str]) -> None:
        """Leave these out of this training's candidates for a while."""
        now = self._clock.monotonic()
        waiting = {key: until for key, until in self._passed_over.items() if until > now}
        self._passed_over = waiting | {
            (training.training_id, client_id): now + PASS_OVER for client_id in client_ids
        }

    async def newcomers(
        self, training: Training, present: Collection[str]
    ) -> AsyncGenerator[Candidate, None]:
        """Those that are not present, not stopped and not passed over: named ones first, then by the criteria."""
        out = {*present, *training.stopped}
        async for candidate in self._outsiders(training, out):
            if not self._is_passed_over(training, candidate.client_id):
                yield candidate

    def _is_passed_over(self, training: Training, client_id: str) -> bool:
        until = self._passed_over.get((training.training_id, client_id))
        return until is not None and until > self._clock.monotonic()

    async def _outsiders(self, training: Training, out: set[str]) -> AsyncGenerator[Candidate, None]:
        now = self._clock.now()
        named = [client_id for client_id in training.members if client_id not in out]
        found = await self._registrations.by_client_ids(named, now) if named else {}
        for client_id in named:
            registration = found.get(client_id)
            if registration and (candidate := candidate_of(registration, None, now)):
                yield candidate
        if "memSelCrit" not in training.request:
            return
        seen = out | set(training.members)
        for dataset in training.request["datasetId"]:
            async for registration in self._registrations.candidates(training_tags(dataset), now):
                if registration["_id"] in seen:
                    continue
                seen.add(registration["_id"])
                if candidate := await self.fits(training, registration, now):
                    yield candidate

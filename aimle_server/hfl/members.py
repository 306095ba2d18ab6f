"""Who takes part in the next round (TS 23.482 8.12.2.1 steps 3 and 4).

Named members (or those of a client set) come first, then whoever fulfils the criteria, which are looked at
again before every round. Newcomers are asked whether they take part (8.10); those who stay are not.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from aimle_server.hfl.training import Participant, Training
from aimle_server.procedures.client_participation import (
    AimleClients,
    gather_participants,
    participation_request,
)
from aimle_server.procedures.external import External
from aimle_server.procedures.matching import (
    TRAINING_OPERATION,
    Candidate,
    candidate_of,
    fulfils_member_criteria,
    training_tags,
)
from aimle_server.procedures.schedule import OperationalSchedule
from ml_repository.registrations import Registrations
from sbi.clock import Clock

RETRY_SECONDS = 2.0
"""Pause before looking again for clients where there are too few."""

SCHEDULE_SECONDS = 60.0
"""Longest sleep before the schedule is looked at again: the clock may have been set meanwhile."""

MOST_PARTICIPANTS = 1000
"""Participants of a training whose request says by criteria who takes part, and not how many."""

PASS_OVER = 60.0
"""Seconds for which a client that did not join, or stopped reporting, is not asked again: others come first."""


class NotEnoughMembers(Exception):
    """Too few clients fulfil the request or agree to take part; the message is fit for the VAL server."""


class MemberSelection:
    """Chooses participants.

    Args:
        registrations, clients, external: who is registered, the way to them, what other systems know.
        server_id: who asks, `requesterId`.
        new_key: makes the unguessable part of a participant's addresses.
        patience: seconds that one client has to answer an invitation.
        join_timeout: seconds to find enough participants before the training fails.
    """

    def __init__(
        self,
        registrations: Registrations,
        clients: AimleClients,
        external: External,
        clock: Clock,
        new_key: Callable[[], str],
        *,
        server_id: str,
        patience: float,
        join_timeout: float,
    ) -> None:
        self._registrations = registrations
        self._clients = clients
        self._external = external
        self._clock = clock
        self._new_key = new_key
        self._server_id = server_id
        self._patience = patience
        self._join_timeout = join_timeout
        self._passed_over: dict[tuple[str, str], float] = {}

    async def choose(self, training: Training) -> tuple[Participant, ...]:
        """The participants of the next round, by client id, once the operational schedule allows one.

        Raises:
            NotEnoughMembers: after `join_timeout` seconds there are still fewer than the quorum.
        """
        await self._wait_for_schedule(training)
        began = self._clock.monotonic()
        self._pass_over(
            training, {p.client_id for p in training.participants.values() if _silent(training, p)}
        )
        staying = await self._staying(training)
        wanted = _wanted(training)
        needed = training.quorum.needed(wanted)
        while True:
            joined = await self._invite(training, staying, (wanted or MOST_PARTICIPANTS) - len(staying))
            chosen = sorted((*staying, *joined), key=lambda participant: participant.client_id)
            if len(chosen) >= needed:
                return tuple(chosen)
            if self._clock.monotonic() - began >= self._join_timeout:
                raise NotEnoughMembers(f"{len(chosen)} clients take part, {needed} needed")
            staying = tuple(chosen)
            await self._clock.sleep(RETRY_SECONDS)

    async def _wait_for_schedule(self, training: Training) -> None:
        schedule = OperationalSchedule.of_request(training.request)
        while True:
            now = self._clock.now()
            opens = schedule.opens(now)
            if opens is None:
                raise NotEnoughMembers("the operational schedule is over")
            if opens <= now:
                return
            await self._clock.sleep(min((opens - now).total_seconds(), SCHEDULE_SECONDS))

    async def _staying(self, training: Training) -> tuple[Participant, ...]:
        """Present participants that are still registered, still fulfil the request and still report."""
        kept = [
            participant
            for participant in training.participants.values()
            if not _silent(training, participant) and participant.client_id not in training.stopped
        ]
        if not kept:
            return ()
        now = self._clock.now()
        found = await self._registrations.by_client_ids((p.client_id for p in kept), now)
        staying = []
        for participant in kept:
            if registration := found.get(participant.client_id):
                candidate = await self._fits(training, registration, now)
                if candidate:
                    staying.append(_moved(participant, candidate))
        return tuple(staying)

    async def _fits(
        self, training: Training, registration: Mapping[str, Any], now: datetime
    ) -> Candidate | None:
        """The client as a candidate: a named member when it is free, any other by the criteria."""
        if registration["_id"] in training.members:
            return candidate_of(registration, None, now)
        criteria = training.request.get("memSelCrit")
        datasets = training.request["datasetId"]
        return await fulfils_member_criteria(criteria, datasets, registration, now, self._external)

    async def _invite(
        self, training: Training, staying: Sequence[Participant], missing: int
    ) -> list[Participant]:
        """Newcomers that agree to take part, at most as many as are missing."""
        if missing <= 0:
            return []
        asked: set[str] = set()
        accepted = await gather_participants(
            self._clients,
            self._newcomers(training, {p.client_id for p in staying}, asked),
            missing,
            lambda candidate, part: membership(
                training, self._server_id, _dataset(training, candidate.profile), part
            ),
            timeout=self._patience * 3,
            patience=self._patience,
        )
        self._pass_over(training, asked - {candidate.client_id for candidate in accepted})
        return [
            Participant(
                client_id=candidate.client_id,
                uri=candidate.uri,
                key=self._new_key(),
                dataset=_dataset(training, candidate.profile),
            )
            for candidate in accepted
        ]

    def _pass_over(self, training: Training, client_ids: set[str]) -> None:
        now = self._clock.monotonic()
        waiting = {key: until for key, until in self._passed_over.items() if until > now}
        self._passed_over = waiting | {
            (training.training_id, client_id): now + PASS_OVER for client_id in client_ids
        }

    def _is_passed_over(self, training: Training, client_id: str) -> bool:
        until = self._passed_over.get((training.training_id, client_id))
        return until is not None and until > self._clock.monotonic()

    async def _newcomers(
        self, training: Training, present: set[str], asked: set[str]
    ) -> AsyncGenerator[Candidate, None]:
        """Candidates that do not take part yet; notes in `asked` whom it gave."""
        async for candidate in self._outsiders(training, present | set(training.stopped)):
            if not self._is_passed_over(training, candidate.client_id):
                asked.add(candidate.client_id)
                yield candidate

    async def _outsiders(self, training: Training, out: set[str]) -> AsyncGenerator[Candidate, None]:
        """Named members first, then by the criteria."""
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
                if candidate := await self._fits(training, registration, now):
                    yield candidate


def membership(training: Training, server_id: str, dataset: str, part: str) -> dict[str, Any]:
    """The AimlecParticipationReq by which a client joins the training (JOIN) or leaves it (DEPART); 8.10."""
    schedule = OperationalSchedule.of_request(training.request).weekly
    return participation_request(
        requester_id=server_id,
        client_set_id=training.request.get("clientSetId", training.training_id),
        part=part,
        operations=[TRAINING_OPERATION],
        service={"valServId": training.service_id},
        model_id=training.output_model_id,
        dataset={"avail": {"ids": [dataset]}},
        schedules=[schedule] if schedule else [],
    )


def _silent(training: Training, participant: Participant) -> bool:
    """Whether it missed so many rounds in a row that it does not take part any more."""
    return participant.misses >= training.quorum.max_misses


def _wanted(training: Training) -> int:
    """How many are to take part; 0: as many as there are. Criteria replace members that were stopped."""
    if training.quorum.wanted or "memSelCrit" in training.request:
        return training.quorum.wanted or len(training.members)
    return len(set(training.members) - set(training.stopped))


def _moved(participant: Participant, candidate: Candidate) -> Participant:
    """The participant at the address it has now; at another one it knows nothing of its subscription."""
    if participant.uri == candidate.uri:
        return participant
    return replace(participant, uri=candidate.uri, subscription=None)


def _dataset(training: Training, profile: Mapping[str, Any]) -> str:
    """The first of the request's datasets that the client says it has; unsaid, the first."""
    wanted: list[str] = training.request["datasetId"]
    has = profile.get("dataSetAvail", {}).get("dataSetIds", ())
    return next((dataset for dataset in wanted if dataset in has), wanted[0])

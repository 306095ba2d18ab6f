"""Who can go on with a task (TS 23.482 8.6.2.1 step 2, 8.6.2.2): clients that fulfil its requirements and agree.

A task of a training of this server needs what the training asks of its members; any other task the operation and the
VAL service that its request names. What is left to do has to fit into the time for which the client is available, as
fast as the source has been. A required resource is a resource usage level (at least that one) or a task capability; any
other words are left to the clients, which are asked.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from aimle_server.procedures.availability import next_available
from aimle_server.procedures.client_participation import ClientUnreachable
from aimle_server.procedures.external import External
from aimle_server.procedures.matching import (
    TRAINING_OPERATION,
    Candidate,
    candidate_of,
    fulfils_member_criteria,
    training_tags,
)
from aimle_server.procedures.transfer_window import Window, available_window
from ml_repository.registrations import Registrations, tag
from sbi.clock import Clock
from sbi.errors import InvalidRequest

Wire = Mapping[str, Any]

MOST_ASKED = 100
"""Clients that are asked for one task, one after the other."""

LEVELS = ("LIMITED_RESOURCE_USAGE", "STANDARD_RESOURCE_USAGE", "PREMIUM_RESOURCE_USAGE")
CAPABILITIES = (
    "HIGH_COMPUTE_CAPABILITY",
    "LOW_COMPUTE_CAPABILITY",
    "LOW_COSTS_PERFORMANCE",
    "GREEN_TASK_PERFORMANCE",
    "ENERGY_EFFICIENT_PERFORMANCE",
)


class TargetClients(Protocol):
    """The way to the clients' Aimlec_AimlTaskTransfer API."""

    async def transfer_task(self, uri: str, body: Wire) -> dict[str, Any]:
        """The AimleClientTaskTransferRes of the client at this `aimleClientUri`.

        Raises:
            ClientUnreachable: it did not agree.
        """
        ...


@dataclass(frozen=True)
class Task:
    """What is to be taken over.

    Attributes:
        transfer_id: of the transfer.
        source: who has it, a ValTargetUe; `source_id` is its client id.
        operation, info: AimlOperation and AimlInfoType.
        service: VAL service; None: any.
        dataset: data set that it is done on; None: no training of this server's.
        training_id: the training that it is a part of.
        criteria: MemberSelCrit of that training.
        excluded: client ids of who cannot take it over.
        target: the client id of the only one that can; None: anybody.
        resource: required of the target, in words.
        needed: how long the rest of it takes.
    """

    transfer_id: str
    source: Wire
    source_id: str
    operation: str = TRAINING_OPERATION
    info: str = "INTERMEDIATE_AIML_OP_STATUS"
    service: str | None = None
    dataset: str | None = None
    training_id: str | None = None
    criteria: Wire | None = None
    excluded: Collection[str] = ()
    target: str | None = None
    resource: str | None = None
    needed: timedelta = timedelta()


@dataclass(frozen=True)
class Target:
    """A client that agreed.

    Attributes:
        candidate: who it is; `identity`: as a ValTargetUe.
        window: when it can take the task over.
        direct: whether the source may hand it over itself.
    """

    candidate: Candidate
    identity: Wire
    window: Window
    direct: bool


class TaskTargets:
    """Finds targets.

    Args:
        server_id: who asks.
        timeout: seconds for all the asking.
    """

    def __init__(
        self,
        registrations: Registrations,
        clients: TargetClients,
        external: External,
        clock: Clock,
        server_id: str,
        timeout: float,
    ) -> None:
        self._registrations = registrations
        self._clients = clients
        self._external = external
        self._clock = clock
        self._server_id = server_id
        self._timeout = timeout

    async def find(self, task: Task, wanted: Window, most: int) -> list[Target]:
        """Up to `most` clients that agreed, whose windows have time in common; those for the direct way first."""
        found: list[Target] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout), aclosing(self._candidates(task, wanted)) as candidates:
                async for candidate, identity in candidates:
                    common = found[-1].window if found else wanted
                    if target := await self._ask(task, candidate, identity, common):
                        found.append(target)
                    if len(found) == most:
                        break
        return sorted(found, key=lambda target: not target.direct)

    async def _candidates(self, task: Task, wanted: Window) -> AsyncGenerator[tuple[Candidate, Wire], None]:
        """Whom to ask, each with its ValTargetUe."""
        now, asked = self._clock.now(), 0
        async with aclosing(self._registered(task, now)) as registrations:
            async for registration in registrations:
                if registration["_id"] in (task.source_id, *task.excluded):
                    continue
                candidate = await self._fits_some_time(task, registration, wanted)
                if candidate and _has_resource(task.resource, candidate.profile):
                    yield candidate, registration["regData"]["aimleClientId"]
                    asked += 1
                if asked == MOST_ASKED:
                    return

    async def _registered(self, task: Task, now: datetime) -> AsyncGenerator[dict[str, Any], None]:
        if task.target is not None:
            found = await self._registrations.by_client_ids([task.target], now)
            for registration in found.values():
                yield registration
            return
        async with aclosing(self._registrations.candidates(_tags(task), now)) as registrations:
            async for registration in registrations:
                yield registration

    async def _fits_some_time(self, task: Task, registration: Wire, wanted: Window) -> Candidate | None:
        """The client as a candidate, by the first of its profiles that has time in the window."""
        for entry in registration["regData"]["suppProfiles"]:
            moment = next_available(entry["clientProfile"], wanted.start)
            if moment and moment < wanted.stop and (found := await self._fits(task, registration, moment)):
                return found
        return None

    async def _fits(self, task: Task, registration: Wire, now: datetime) -> Candidate | None:
        if task.dataset is not None:
            found = await fulfils_member_criteria(
                task.criteria, [task.dataset], registration, now, self._external
            )
            return found if found and task.service in (None, *found.services) else None
        candidate = candidate_of(registration, task.service, now)
        return candidate if candidate and task.operation in candidate.profile["aimlOperations"] else None

    async def _ask(self, task: Task, candidate: Candidate, identity: Wire, wanted: Window) -> Target | None:
        """The client as a target if it agrees and there is time; a silent one leaves time to ask others."""
        window = available_window(candidate.profile, wanted, task.needed)
        if window is None:
            return None
        try:
            async with asyncio.timeout(self._timeout / 2):
                answer = await self._clients.transfer_task(
                    candidate.uri, _request(task, window, self._server_id)
                )
            said = answer.get("aimlTaskTransferTime")
            agreed = window.within(Window.of_wire(said, "")) if said else window
        except (ClientUnreachable, TimeoutError, InvalidRequest, KeyError, ValueError, TypeError):
            return None
        extension = answer.get("aimle")
        direct = isinstance(extension, dict) and extension.get("direct") is True
        return Target(candidate, identity, agreed, direct) if agreed else None


def _tags(task: Task) -> list[str]:
    """Tags that whoever can take the task over has, the most selective kind first."""
    if task.dataset is not None:
        return training_tags(task.dataset)
    services = [tag("svc", task.service)] if task.service is not None else []
    return [*services, tag("op", task.operation)]


def _has_resource(wanted: str | None, profile: Wire) -> bool:
    if wanted in CAPABILITIES:
        return wanted in profile.get("taskCaps", ())
    if wanted not in LEVELS:
        return True
    level = profile["clientCap"]["rsrcUsageLvl"]
    return level in LEVELS and LEVELS.index(level) >= LEVELS.index(wanted)


def _request(task: Task, window: Window, server_id: str) -> dict[str, Any]:
    """The AimleClientTaskTransferReq; `aimle` is ours: which transfer this is, and of which training."""
    known = {"transferId": task.transfer_id, "trainingId": task.training_id, "datasetId": task.dataset}
    return {
        "requestorId": server_id,
        "sourceAimlId": dict(task.source),
        "aimlTaskType": task.operation,
        "aimlInfoType": task.info,
        "aimlTaskTransferTime": window.to_wire(),
        "timeValidity": window.to_wire(),
        "aimle": {name: value for name, value in known.items() if value is not None},
    }

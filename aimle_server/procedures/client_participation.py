"""AIMLE client participation (TS 23.482 8.10): clients are asked whether they join, until enough do."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Protocol

from aimle_server.procedures.matching import Candidate

Wire = Mapping[str, Any]

JOIN = "JOIN"
DEPART = "DEPART"
DEPART_SECONDS = 2.0
"""How long clients have to acknowledge that they are not needed; they are told once."""


class ClientUnreachable(Exception):
    """The client did not answer, or nothing that can be understood."""


class AimleClients(Protocol):
    """The way to the clients' Aimlec_AIMLEClientParticipation API."""

    async def participation(self, uri: str, body: Wire) -> bool:
        """Whether the client at this `aimleClientUri` agrees to an AimlecParticipationReq.

        Raises:
            ClientUnreachable: there was no usable answer.
        """
        ...


MakeBody = Callable[[Candidate, str], Wire]
"""The AimlecParticipationReq for a candidate and a ClientSetPart."""


async def gather_participants(
    clients: AimleClients,
    candidates: AsyncGenerator[Candidate, None],
    wanted: int,
    make_body: MakeBody,
    *,
    timeout: float,
    patience: float,
) -> list[Candidate]:
    """Up to `wanted` candidates that agreed to join, in the order in which they were taken.

    As many as are wanted are asked at once. One that refuses, cannot be reached or says nothing for
    `patience` seconds is replaced by the next candidate, until `timeout` seconds have passed. Whoever gave no
    answer may have joined all the same and is told to depart, which takes up to `DEPART_SECONDS` more.
    `candidates` is closed in the end.
    """
    gathering = _Gathering(clients, candidates, make_body, patience)
    try:
        with suppress(TimeoutError):
            async with aclosing(candidates), asyncio.timeout(timeout), asyncio.TaskGroup() as seats:
                for _ in range(wanted):
                    seats.create_task(gathering.fill_seat())
    except BaseException as error:
        await depart(clients, [*gathering.joined(), *gathering.silent.values()], make_body)
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    await depart(clients, gathering.silent.values(), make_body)
    return gathering.joined()


async def depart(clients: AimleClients, candidates: Iterable[Candidate], make_body: MakeBody) -> None:
    """Tell clients, all at once, that they are not in the set; one that does not answer is left alone."""

    async def tell(candidate: Candidate) -> None:
        with suppress(ClientUnreachable):
            await clients.participation(candidate.uri, make_body(candidate, DEPART))

    with suppress(TimeoutError):
        async with asyncio.timeout(DEPART_SECONDS), asyncio.TaskGroup() as calls:
            for candidate in candidates:
                calls.create_task(tell(candidate))


def participation_request(
    *,
    requester_id: str,
    client_set_id: str,
    part: str,
    operations: Sequence[str],
    service: Wire,
    model_id: str = "",
    dataset: Wire | None = None,
    schedules: Sequence[Wire] = (),
) -> dict[str, Any]:
    """An AimlecParticipationReq.

    Args:
        requester_id: whom the set is for.
        client_set_id: the set.
        part: JOIN or DEPART.
        operations: AimlOperations, as registrations name them.
        service: the ServiceRequirement.
        model_id: the ML model ID, mandatory on the wire; empty: none is chosen yet.
        dataset: the DatasetRequirement; None: nothing is required.
        schedules: ScheduledCommunicationTimes, each of which goes with each operation.
    """
    plain: list[dict[str, Any]] = [{"aimlOperation": operation} for operation in operations]
    timed = [entry | {"aimlOperSched": schedule} for entry in plain for schedule in schedules]
    return {
        "requesterId": requester_id,
        "clientSetId": client_set_id,
        "clientSetPart": part,
        "mlModelId": model_id,
        "schedAimlOperations": timed or plain,
        "dataSetReq": dataset or {},
        "serviceReq": service,
    }


class _Gathering:
    """One round of invitations: seats to fill, and a source of candidates that they share.

    Attributes:
        accepted: who joined, by their place in the source.
        silent: who was asked and neither joined nor refused, by their place.
    """

    def __init__(
        self,
        clients: AimleClients,
        candidates: AsyncGenerator[Candidate, None],
        make_body: MakeBody,
        patience: float,
    ) -> None:
        self.accepted: dict[int, Candidate] = {}
        self.silent: dict[int, Candidate] = {}
        self._clients = clients
        self._candidates = candidates
        self._make_body = make_body
        self._patience = patience
        self._taken = 0
        self._source = asyncio.Lock()

    def joined(self) -> list[Candidate]:
        """Who joined, in the order of the source."""
        return [candidate for _, candidate in sorted(self.accepted.items(), key=lambda item: item[0])]

    async def fill_seat(self) -> None:
        """Ask one candidate after the other until one joins or the source is empty."""
        while True:
            async with self._source:
                candidate = await anext(self._candidates, None)
                place = self._taken
                self._taken += 1
            if candidate is None or await self._joins(candidate, place):
                return

    async def _joins(self, candidate: Candidate, place: int) -> bool:
        self.silent[place] = candidate
        try:
            async with asyncio.timeout(self._patience):
                agrees = await self._clients.participation(candidate.uri, self._make_body(candidate, JOIN))
        except (ClientUnreachable, TimeoutError):
            return False
        del self.silent[place]
        if agrees:
            self.accepted[place] = candidate
        return agrees

"""AIMLE client selection (TS 23.482 8.9, AIMLES_AIMLEClientSelection): clients that agreed become a set.

In VAL server selection the caller names the clients, in AIMLE server selection it gives criteria. Whoever is
not registered, or not available now, counts as having refused. With fewer clients than the minimum there is
no set: those that had agreed are told to depart and the request fails.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from aimle_server.procedures import enumerations
from aimle_server.procedures.client_discovery import MAX_CLIENTS, ClientDiscovery
from aimle_server.procedures.client_participation import (
    AimleClients,
    MakeBody,
    depart,
    gather_participants,
    participation_request,
)
from aimle_server.procedures.enumerations import registered
from aimle_server.procedures.matching import Candidate, candidate_of
from ml_repository.client_sets import ClientSets
from ml_repository.registrations import Registrations
from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Forbidden, InvalidRequest
from schemas.common import NO_FEATURES

Wire = Mapping[str, Any]

NOT_ENOUGH_CLIENTS = "NOT_ENOUGH_CLIENTS"
"""Cause of a selection that failed because fewer clients than the minimum agreed (403)."""


class ClientSelection:
    """Forms client sets.

    Args:
        discovery: finds clients by criteria.
        registrations: finds clients by name.
        client_sets: where the sets are kept.
        clients: the way to the clients.
        clock: tells the time.
        new_id: makes client set identifiers.
        timeout: seconds that the clients have to agree, all together.
    """

    def __init__(
        self,
        discovery: ClientDiscovery,
        registrations: Registrations,
        client_sets: ClientSets,
        clients: AimleClients,
        clock: Clock,
        new_id: Callable[[], str],
        timeout: float,
    ) -> None:
        self._discovery = discovery
        self._registrations = registrations
        self._client_sets = client_sets
        self._clients = clients
        self._clock = clock
        self._new_id = new_id
        self._timeout = timeout

    async def select(self, caller: Caller, request: Wire) -> dict[str, Any]:
        """The ClientSelResp to a ClientSelReq: who agreed, and the set they are now.

        Without `reqNum` every matching client is asked, up to `MAX_CLIENTS`; without `minNum` one is enough.

        Raises:
            InvalidRequest: the numbers contradict each other or the way of selection.
            Forbidden: fewer clients than the minimum agreed.
        """
        wanted = _wanted(request)
        minimum = _minimum(request, wanted)
        set_id = self._new_id()
        make_body = _body_maker(caller.subject, set_id, request)
        selected = await self._gather(request, wanted, make_body)
        if len(selected) < minimum:
            await depart(self._clients, selected, make_body)
            detail = f"{len(selected)} AIMLE clients agreed to participate, {minimum} are needed"
            raise Forbidden(detail, cause=NOT_ENOUGH_CLIENTS)
        names = [candidate.client_id for candidate in selected]
        try:
            await self._store(set_id, caller, names, request)
        except BaseException:
            await depart(self._clients, selected, make_body)
            raise
        response: dict[str, Any] = {"clients": names, "clientSet": set_id}
        if "suppFeat" in request:
            response["suppFeat"] = NO_FEATURES
        return response

    async def _gather(self, request: Wire, wanted: int, make_body: MakeBody) -> list[Candidate]:
        """A silent client costs half the time where another can take its place, all of it where none can."""
        if "clients" in request:
            source, patience = self._named(request), self._timeout
        else:
            source, patience = self._discovery.stream(request["selCriteria"], wanted), self._timeout / 2
        return await gather_participants(
            self._clients, source, wanted, make_body, timeout=self._timeout, patience=patience
        )

    async def _named(self, request: Wire) -> AsyncGenerator[Candidate, None]:
        now = self._clock.now()
        names = list(dict.fromkeys(request["clients"]))
        found = await self._registrations.by_client_ids(names, now)
        for registration in (found[name] for name in names if name in found):
            if candidate := candidate_of(registration, request.get("valSvcId"), now):
                yield candidate

    async def _store(self, set_id: str, caller: Caller, clients: list[str], request: Wire) -> None:
        await self._client_sets.insert(
            {
                "_id": set_id,
                "_owner": caller.subject,
                "_created": self._clock.now(),
                "clients": clients,
                "request": dict(request),
            }
        )


def _wanted(request: Wire) -> int:
    """How many clients to ask for."""
    if "clients" in request:
        if "reqNum" in request:
            raise InvalidRequest.of("/reqNum", "goes with selCriteria only (TS 29.482 6.1.7.6.2.5)")
        return min(len(set(request["clients"])), MAX_CLIENTS)
    return wanted_by_criteria(request)


def wanted_by_criteria(request: Wire) -> int:
    """How many clients a request or a subscription with criteria wants; without `reqNum` as many as there may be.

    Raises:
        InvalidRequest: its number of clients is out of bounds.
    """
    wanted = request.get("reqNum", MAX_CLIENTS)
    if not 1 <= wanted <= MAX_CLIENTS:
        raise InvalidRequest.of("/reqNum", f"is not between 1 and {MAX_CLIENTS}")
    return int(wanted)


def _minimum(request: Wire, wanted: int) -> int:
    """How few clients still make a set; for named clients too, as TS 23.482 8.9.2.1 NOTE 4 has it."""
    minimum = request.get("minNum", 1)
    if minimum > wanted:
        raise InvalidRequest.of("/minNum", f"is more than the {wanted} clients to be selected")
    return max(1, int(minimum))


def _body_maker(requester_id: str, set_id: str, request: Wire) -> MakeBody:
    """What the clients are asked to join for: the criteria, or what they themselves offer."""
    if "selCriteria" in request:
        return by_criteria(requester_id, set_id, request["selCriteria"])

    def make_body(candidate: Candidate, part: str) -> Wire:
        return participation_request(
            requester_id=requester_id,
            client_set_id=set_id,
            part=part,
            operations=candidate.profile["aimlOperations"],
            service={"valServId": request.get("valSvcId", candidate.services[0])},
        )

    return make_body


def by_criteria(requester_id: str, set_id: str, criteria: Wire) -> MakeBody:
    """Asks clients for what ClientDiscCriteria ask for."""

    def make_body(_: Candidate, part: str) -> Wire:
        return participation_request(
            requester_id=requester_id,
            client_set_id=set_id,
            part=part,
            operations=[registered(enumerations.OPERATION, value) for value in criteria["aimlOpers"]],
            service=criteria["serviceReq"],
            dataset=criteria.get("datasetReq"),
            schedules=criteria["clientAppCap"].get("avail", ()),
        )

    return make_body

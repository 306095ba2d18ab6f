"""AIMLE client selection subscriptions (TS 23.482 8.13): a selection that is kept as clients come, change and go.

Clients that fulfil the criteria are asked whether they join until there are `reqNum`, or all of them where none is
asked for. One that no longer fulfils them, that is not registered or not available any more, departs, and another
takes its place. The VAL server is told who was replaced by whom.

What clients state, and that their registrations end, comes as an event. Hours pass without one, so the next end of a
selected client's hours is when to look again; what only other systems know is asked for now and then.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from aimle_server.procedures import availability
from aimle_server.procedures.client_discovery import ClientDiscovery
from aimle_server.procedures.client_participation import (
    AimleClients,
    MakeBody,
    depart,
    gather_participants,
)
from aimle_server.procedures.client_selection import by_criteria, wanted_by_criteria
from aimle_server.procedures.external import External
from aimle_server.procedures.matching import Candidate, criteria_tags, matches
from ml_repository.registrations import Registrations, client_topic
from ml_repository.subscriptions import Looked, Subscription
from sbi.clock import Clock, to_wire

Wire = Mapping[str, Any]

KIND = "selection"

REFUSED = timedelta(minutes=10)
"""A client that did not join is not asked again for so long."""

ELSEWHERE = timedelta(seconds=30)
"""Between two looks at what only other systems know: location, velocity, QoS, edge servers."""

SHORT = timedelta(minutes=1)
"""Between two looks where clients are missing: the hours of some may have begun."""

LONGEST = timedelta(days=1)
"""Between two looks where nothing is expected."""

_EXTERNAL = {"location", "clientVel", "clientQosReqs", "edgeAimleS"}


class SelectionWatch:
    """Looks at selections.

    Args:
        discovery: finds clients by criteria.
        registrations: finds clients by name.
        clients: the way to the clients.
        external: the systems that know what a registration does not say.
        timeout: seconds that newcomers have to agree, all together.
    """

    def __init__(
        self,
        discovery: ClientDiscovery,
        registrations: Registrations,
        clients: AimleClients,
        external: External,
        clock: Clock,
        timeout: float,
    ) -> None:
        self._discovery = discovery
        self._registrations = registrations
        self._clients = clients
        self._external = external
        self._clock = clock
        self._timeout = timeout

    async def look(self, subscription: Subscription) -> tuple[Looked, "Departures"]:
        """The selection as it is to be from now on, and whom to tell what once it is kept."""
        now = self._clock.now()
        criteria = subscription.body["selCriteria"]
        addresses = _addresses(subscription)
        before = list(addresses)
        found = await self._registrations.by_client_ids(before, now)
        kept = {
            client: candidate
            for client in before
            if client in found
            and (candidate := await matches(criteria, found[client], now, self._external)) is not None
        }
        wanted = wanted_by_criteria(subscription.body)
        while len(kept) > wanted:
            kept.popitem()
        resting = [one for one in subscription.state.get("refused", ()) if one["until"] > now]
        make_body = _body_maker(subscription)
        exclude = {*kept, *(one["client"] for one in resting)}
        joined, refused = await self._newcomers(criteria, wanted - len(kept), exclude, make_body)
        selected = kept | {candidate.client_id: candidate for candidate in joined}
        gone = [client for client in before if client not in kept]
        looked = Looked(
            state={
                "selected": [{"client": one.client_id, "uri": one.uri} for one in selected.values()],
                "refused": [*resting, *({"client": client, "until": now + REFUSED} for client in refused)],
            },
            topics=_topics(criteria, selected, wanted),
            due=min(
                [
                    now + _pause(criteria, len(selected), subscription.body),
                    *(_lasts(candidate, now) for candidate in selected.values()),
                ]
            ),
            notification=_news(gone, [candidate.client_id for candidate in joined], now),
            report=_standing(selected, now),
        )
        leaving = [_known(client, addresses[client]) for client in gone]
        return looked, Departures(self._clients, make_body, joined, leaving)

    async def _newcomers(
        self, criteria: Wire, missing: int, exclude: set[str], make_body: MakeBody
    ) -> tuple[list[Candidate], list[str]]:
        """Who joined, and who was asked and did not."""
        if missing <= 0:
            return [], []
        asked: list[str] = []

        async def source() -> AsyncGenerator[Candidate, None]:
            async with aclosing(self._discovery.stream(criteria, missing, exclude)) as matching:
                async for candidate in matching:
                    asked.append(candidate.client_id)
                    yield candidate

        joined = await gather_participants(
            self._clients, source(), missing, make_body, timeout=self._timeout, patience=self._timeout / 2
        )
        names = {candidate.client_id for candidate in joined}
        return joined, [client for client in asked if client not in names]

    async def end(self, subscription: Subscription) -> None:
        """Tell the selected clients that nobody wants them any more."""
        candidates = [_known(client, uri) for client, uri in _addresses(subscription).items()]
        await depart(self._clients, candidates, _body_maker(subscription))


class Departures:
    """What is left to tell clients once it is clear whether a look counts."""

    def __init__(
        self, clients: AimleClients, make_body: MakeBody, joined: list[Candidate], leaving: list[Candidate]
    ) -> None:
        self._clients = clients
        self._make_body = make_body
        self._joined = joined
        self._leaving = leaving

    async def kept(self) -> None:
        """It counts: those that were replaced depart."""
        await depart(self._clients, self._leaving, self._make_body)

    async def lost(self) -> None:
        """It does not: the newcomers depart again."""
        await depart(self._clients, self._joined, self._make_body)


def _addresses(subscription: Subscription) -> dict[str, str]:
    """The selected clients and where they are reached."""
    return {one["client"]: one["uri"] for one in subscription.state.get("selected", ())}


def _topics(criteria: Wire, selected: Mapping[str, Candidate], wanted: int) -> list[str]:
    """Events of the selected clients, and where some are missing of all that may fulfil the criteria."""
    own = [client_topic(client) for client in selected]
    return own if len(selected) >= wanted else [criteria_tags(criteria)[0], *own]


def _lasts(candidate: Candidate, now: datetime) -> datetime:
    """Until when a selected client's hours last; the end of its registration is an event."""
    return availability.available_until(candidate.profile, now) or now + LONGEST


def _pause(criteria: Wire, selected: int, body: Wire) -> timedelta:
    if criteria.keys() & _EXTERNAL:
        return ELSEWHERE
    return SHORT if selected < body.get("reqNum", 0) else LONGEST


def _news(gone: list[str], come: list[str], now: datetime) -> dict[str, Any] | None:
    """What has changed, None where nothing has."""
    changes = list(zip_longest(gone, come, fillvalue=""))
    return _notification(changes, now) if changes else None


def _standing(selected: Iterable[str], now: datetime) -> dict[str, Any]:
    """All that are selected; where there is nobody, nobody in nobody's place."""
    return _notification([("", client) for client in selected] or [("", "")], now)


def _notification(changes: Iterable[tuple[str, str]], now: datetime) -> dict[str, Any]:
    """A ClientSelNotif."""
    reports = [{"replaced": replaced, "selected": selected} for replaced, selected in changes]
    return {"reports": reports, "timeStamp": to_wire(now)}


def _known(client: str, uri: str) -> Candidate:
    """A client of which no more is needed than its address."""
    return Candidate(client, uri, {}, "")


def _body_maker(subscription: Subscription) -> MakeBody:
    return by_criteria(subscription.owner, subscription.id, subscription.body["selCriteria"])

"""AIMLE client selection subscriptions (TS 23.482 8.13): a selection that is kept as clients come, change and go.

Clients that fulfil the criteria are asked whether they join until there are `reqNum`, or all of them where none is
asked for. One that no longer fulfils them, that is not registered or not available any more, departs, and another
takes its place. The VAL server is told who was replaced by whom.

What clients state, and that their registrations end, comes as an event. Hours pass without one, so the next end of a
selected client's hours is when to look again; what only other systems know is asked for now and then.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import zip_longest
from typing import Any

from aimle_server.procedures.client_discovery import ClientDiscovery
from aimle_server.procedures.client_participation import AimleClients, MakeBody, depart
from aimle_server.procedures.client_selection import by_criteria, wanted_by_criteria
from aimle_server.procedures.external import External
from aimle_server.procedures.kept_selection import ELSEWHERE, LONGEST, SHORT, Selector, Wanted, known
from aimle_server.procedures.matching import Candidate, criteria_tags, matches
from ml_repository.registrations import client_topic
from ml_repository.subscriptions import Looked, Subscription
from sbi.clock import Clock, to_wire

Wire = Mapping[str, Any]

KIND = "selection"

REFUSED = timedelta(minutes=10)
"""A client that did not join is not asked again for so long."""

_EXTERNAL = {"location", "clientVel", "clientQosReqs", "edgeAimleS"}


class SelectionWatch:
    """Looks at selections.

    Args:
        discovery: finds clients by criteria.
        selector: brings selections up to date.
        clients: the way to the clients.
        external: the systems that know what a registration does not say.
    """

    def __init__(
        self,
        discovery: ClientDiscovery,
        selector: Selector,
        clients: AimleClients,
        external: External,
        clock: Clock,
    ) -> None:
        self._discovery = discovery
        self._selector = selector
        self._clients = clients
        self._external = external
        self._clock = clock

    async def look(self, subscription: Subscription) -> tuple[Looked, "Departures"]:
        """The selection as it is to be from now on, and whom to tell what once it is kept."""
        now = self._clock.now()
        criteria = subscription.body["selCriteria"]
        addresses = _addresses(subscription)
        resting = [one for one in subscription.state.get("refused", ()) if one["until"] > now]
        wanted = self._asked_for(subscription)
        found = await self._selector.select(list(addresses), wanted, {one["client"] for one in resting}, now)
        selected = found.all
        gone = [client for client in addresses if client not in found.kept]
        looked = Looked(
            state={
                "selected": [{"client": one.client_id, "uri": one.uri} for one in selected.values()],
                "refused": [
                    *resting,
                    *({"client": client, "until": now + REFUSED} for client in found.refused),
                ],
            },
            topics=_topics(criteria, selected, wanted.number),
            due=found.due(now, _pause(criteria, len(selected), subscription.body)),
            notification=_news(gone, [candidate.client_id for candidate in found.joined], now),
            report=_standing(selected, now),
        )
        leaving = [known(client, addresses[client]) for client in gone]
        return looked, Departures(self._clients, wanted.make_body, list(found.joined), leaving)

    def _asked_for(self, subscription: Subscription) -> Wanted:
        criteria = subscription.body["selCriteria"]
        return Wanted(
            wanted_by_criteria(subscription.body),
            lambda registration, now: matches(criteria, registration, now, self._external),
            partial(self._discovery.stream, criteria),
            _body_maker(subscription),
        )

    async def end(self, subscription: Subscription) -> None:
        """Tell the selected clients that nobody wants them any more."""
        candidates = [known(client, uri) for client, uri in _addresses(subscription).items()]
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


def _body_maker(subscription: Subscription) -> MakeBody:
    return by_criteria(subscription.owner, subscription.id, subscription.body["selCriteria"])

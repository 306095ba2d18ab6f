"""FL event subscriptions (TS 23.482 8.5): told of FL members that come, change and go, of their models and loads.

What members state, that they end, and what becomes of models, comes as an event. Hours and loads change without one,
so when the next hours begin or end is when to look again, and loads are looked at now and then.
"""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

from aimle_server.procedures.fl_events import AVAILABILITY, LOAD, MODEL, Found, events_of, notification
from aimle_server.procedures.fl_members import FLMemberView, Member, Wanted
from aimle_server.procedures.model_retrieval import ModelRetrieval
from aimle_server.procedures.model_update import accuracy_of
from ml_repository.loads import Loads
from ml_repository.models import topic_of
from ml_repository.subscriptions import Looked, Subscription
from sbi.auth import Caller
from sbi.clock import Clock, from_wire
from sbi.errors import InvalidRequest

Wire = Mapping[str, Any]

KIND = "fl-events"

MAX_MEMBERS = 1000
"""Members that one subscription follows at the same time, at most: a notification may be about all of them."""

LOADS = timedelta(seconds=30)
"""Between two looks at loads."""

LONGEST = timedelta(days=1)
"""Between two looks where nothing is expected."""


class FLEventsWatch:
    """Looks at subscriptions to FL events.

    Args:
        members: finds FL members.
        retrieval: finds models.
        loads: of the members, as the processes of this server have measured them.
    """

    def __init__(self, members: FLMemberView, retrieval: ModelRetrieval, loads: Loads, clock: Clock) -> None:
        self._members = members
        self._retrieval = retrieval
        self._loads = loads
        self._clock = clock

    async def look(self, subscription: Subscription) -> tuple[Looked, None]:
        """What is to be told: of one event at a time, what others there are at once afterwards."""
        now, body = self._clock.now(), subscription.body
        begins = from_wire(body["timeValidity"]["startTime"])
        if now < begins:
            return Looked(state={}, topics=[], due=begins), None
        found, due = await self._find(subscription, now)
        state, news, events = dict(subscription.state), None, events_of(body)
        for event in events:
            contents = event.news(body, state.get(event.name, ()), found)
            state[event.name] = event.remember(body, found)
            if contents:
                news = notification(body, event.name, contents, now)
                due = due if event is events[-1] else now
                break
        looked = Looked(
            state=state,
            topics=_topics(body, list(found.members)),
            due=due,
            notification=news,
            report=report(body, found),
        )
        return looked, None

    async def _find(self, subscription: Subscription, now: datetime) -> tuple[Found, datetime]:
        """What there is of all that is told of, and when to look again."""
        body, wanted = subscription.body, Wanted.of(subscription.body)
        told = {event.name for event in events_of(body)}
        members, due = dict[str, Member](), now + LONGEST
        if told & {AVAILABILITY, LOAD}:
            members, due = await self._available(wanted, _known(subscription), now)
        models = await self._accuracies(subscription) if MODEL in told else {}
        loads = dict[str, int]()
        if LOAD in told:
            loads, due = await self._loads.of(members, now), min(due, now + LOADS)
        return Found(now, members, models, loads), due

    async def _available(
        self, wanted: Wanted, known: list[str], now: datetime
    ) -> tuple[dict[str, Member], datetime]:
        """The members that are available, those first that were, and when that may change by itself."""
        names = known if wanted.id is None else [wanted.id]
        available, due = dict[str, Member](), now + LONGEST
        async with aclosing(self._members.find(wanted, names, now)) as members:
            async for member in members:
                due = min(due, member.changes(now) or due)
                if member.is_available(now):
                    available[member.id] = member
                if len(available) == MAX_MEMBERS:
                    break
        return available, due

    async def _accuracies(self, subscription: Subscription) -> dict[str, float]:
        """In per cent, of the models that the subscriber may have and that have an accuracy that can be one."""
        caller = Caller(subscription.owner, frozenset())
        found = await self._retrieval.suitable(caller, subscription.body["mlMdlInfo"])
        accuracies = {model.id: accuracy_of(model) for model in found}
        return {
            name: round(100 * accuracy, 2)
            for name, accuracy in accuracies.items()
            if accuracy is not None and 0 <= accuracy <= 1
        }


def check(body: Wire) -> None:
    """Refuse an FlEvtsSub that makes no sense.

    Raises:
        InvalidRequest: no model is as accurate as it asks for.
    """
    if body["evtInfo"]["evtType"]["flMdlInfo"]["accuracy"] > 100:
        raise InvalidRequest.of("/evtInfo/evtType/flMdlInfo/accuracy", "is more than 100 per cent")


def report(body: Wire, found: Found) -> dict[str, Any] | None:
    """All that the subscription is about as it stands, under the name of the first event; None: there is nothing."""
    events = events_of(body)
    contents = [content for event in events for content in event.whole(body, found)]
    return notification(body, events[0].name, contents, found.now) if contents else None


def _known(subscription: Subscription) -> list[str]:
    """The members that it has followed so far: they come first where there are too many."""
    told = [one for name in (AVAILABILITY, LOAD) for one in subscription.state.get(name, ())]
    return list(dict.fromkeys(one["id"] for one in told))


def _topics(body: Wire, names: list[str]) -> list[str]:
    """What events are about that may be news."""
    told = {event.name for event in events_of(body)}
    members = Wanted.of(body).topics(names) if told & {AVAILABILITY, LOAD} else []
    return [*members, topic_of(body["mlMdlInfo"])] if MODEL in told else members

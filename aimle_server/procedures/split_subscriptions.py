"""Split operation event subscriptions (TS 23.482 8.14.2.5): told of pipelines, and of what is available.

PIPELINE_INFO tells of pipelines that the subscriber may know of, one with `splitOpPipelineId` or all with `*`: made,
changed (also when a node of theirs no longer counts, or counts again) or deleted. One notification has room for one
pipeline, so there is one look for each that has changed. AVAILABILITY tells of pipelines and nodes that meet
`discFilters` as they become available. ASSISTANCE_INFO tells what one pipeline was measured to achieve, if this server
runs it; other advice would need systems that are not connected, so none is given.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aimle_server.procedures.reporting import PERIODIC
from aimle_server.procedures.split_discovery import SplitDiscovery, stages_of
from aimle_server.procedures.split_filters import check_filters, meets
from aimle_server.procedures.split_stages import (
    ASSISTANCE_INFO,
    AVAILABILITY,
    CREATED,
    DELETED,
    PIPELINE_INFO,
    UPDATED,
    missing,
    named,
    notification,
    profile_of,
)
from ml_repository.model_access import ANY
from ml_repository.split_nodes import SplitNodes, model_topic, node_topic
from ml_repository.split_pipelines import Pipeline, SplitPipelines, party_topic, pipeline_topic
from ml_repository.subscriptions import Looked, Subscription
from sbi.auth import Caller
from sbi.clock import NEVER, Clock
from sbi.errors import InvalidRequest, NotSupported
from schemas.split_event import SplitOpEventId

Wire = Mapping[str, Any]

KIND = "split_event"

LONGEST = timedelta(days=1)
"""Between two looks where nothing is expected: access to models may depend on the hour."""


@dataclass(frozen=True)
class Change:
    """What became of a pipeline that a subscription is about.

    Attributes:
        sub_event: to be told; None: nothing has changed, or nobody has to know.
        missing: nodes of it that do not count now.
        known: what the subscription remembers of it, if it does.
    """

    pipeline: Pipeline
    sub_event: str | None
    missing: Sequence[str]
    known: Wire | None

    def entry(self, told: bool) -> Wire | None:
        """What to remember, once this was told or as long as it was not."""
        if not told:
            return self.known
        if self.sub_event == DELETED:
            return None
        pipeline = self.pipeline
        return {"id": pipeline.id, "version": pipeline.version, "missing": list(self.missing)}


class SplitEventWatch:
    """Looks at subscriptions to pipelines and to what is available."""

    def __init__(
        self, pipelines: SplitPipelines, nodes: SplitNodes, discovery: SplitDiscovery, clock: Clock
    ) -> None:
        self._pipelines = pipelines
        self._nodes = nodes
        self._discovery = discovery
        self._clock = clock

    async def look(self, subscription: Subscription) -> tuple[Looked, None]:
        """What is to be told."""
        looks = {AVAILABILITY: self._availability, ASSISTANCE_INFO: self._assistance}
        return await looks.get(subscription.body["splitOpEventId"], self._pipeline_info)(subscription), None

    async def _pipeline_info(self, subscription: Subscription) -> Looked:
        """Tells of the first pipeline that has changed; where more have, a look follows at once."""
        now, state = self._clock.now(), subscription.state
        changes = await self._changes(subscription)
        news = [change for change in changes if change.sub_event]
        entries = [change.entry(told=change not in news[1:]) for change in changes]
        living = [change for change in changes if change.sub_event != DELETED]
        return Looked(
            state={
                **state,
                "told": [entry for entry in entries if entry],
                "over": state.get("over", False) or any(change.sub_event == DELETED for change in news[:1]),
            },
            topics=_topics(subscription, [change.pipeline for change in living]),
            due=now if news[1:] else now + LONGEST,
            notification=_notification(subscription, news[0]) if news else None,
            report=_notification(subscription, living[0], standing=True) if living else None,
        )

    async def _changes(self, subscription: Subscription) -> list[Change]:
        """How the pipelines stand that the subscription is about, and those that are gone."""
        known = {one["id"]: one for one in subscription.state.get("told", ())}
        found = await self._wanted(subscription)
        there = await self._nodes.at(named(stages_of(found)), self._clock.now())
        changes = []
        for pipeline in found:
            before, lacking = known.pop(pipeline.id, None), missing(pipeline, there)
            sub_event = _became(pipeline, lacking, before, subscription.state["since"])
            changes.append(Change(pipeline, sub_event, lacking, before))
        for before in known.values():
            gone = await self._pipelines.get(before["id"])
            if gone is not None and gone.ended != NEVER:
                changes.append(Change(gone, DELETED, (), before))
        return changes or await self._gone_at_once(subscription)

    async def _gone_at_once(self, subscription: Subscription) -> list[Change]:
        """The one pipeline of a subscription, if it was deleted before the first look."""
        wanted, state = subscription.body["splitOpPipelineId"], subscription.state
        gone = None if wanted == ANY or state.get("over") else await self._pipelines.get(wanted)
        if gone is None or gone.ended == NEVER or gone.ended < state["since"]:
            return []
        visible = await self._discovery.may_see(Caller(subscription.owner, frozenset()), gone)
        return [Change(gone, DELETED, (), None)] if visible else []

    async def _wanted(self, subscription: Subscription) -> list[Pipeline]:
        """The living pipelines that the subscription is about and that the subscriber may know of."""
        caller, wanted = Caller(subscription.owner, frozenset()), subscription.body["splitOpPipelineId"]
        filters = subscription.body.get("discFilters")
        if wanted == ANY:
            found = await self._pipelines.concerning(caller.subject)
        else:
            found = [one for one in [await self._pipelines.get(wanted)] if one]
        return [
            one
            for one in found
            if one.ended == NEVER
            and (filters is None or meets(one, filters))
            and await self._discovery.may_see(caller, one)
        ]

    async def _assistance(self, subscription: Subscription) -> Looked:
        """Tells what the pipeline was measured to achieve, whenever it was measured anew."""
        found = await self._wanted(subscription)
        advice = [_advice(one) for one in found if one.deployment and "latency" in one.deployment["measured"]]
        before, now_known = subscription.state.get("advice"), advice[0] if advice else None
        return Looked(
            state={**subscription.state, "advice": now_known or before},
            topics=_topics(subscription, found),
            due=self._clock.now() + LONGEST,
            notification=now_known if now_known != before else None,
            report=now_known,
        )

    async def _availability(self, subscription: Subscription) -> Looked:
        """Tells of what has become available since the look before."""
        caller, body, state = Caller(subscription.owner, frozenset()), subscription.body, subscription.state
        filters, wanted = body["discFilters"], body["splitOpPipelineId"]
        found = await self._discovery.pipelines(caller, filters)
        pipelines = [one for one in found if wanted in (ANY, one.id)]
        nodes = await self._discovery.nodes(filters) if wanted == ANY else []
        addresses = list(dict.fromkeys(node.address for node in nodes))
        there = {"pipelines": [one.id for one in pipelines], "nodes": addresses}
        before = state.get("available", {"pipelines": [], "nodes": []})
        models = sorted({stage["mlModelId"] for stage in filters["stageInfo"]} | {ANY})
        return Looked(
            state={**state, "available": there},
            topics=[*(model_topic(model) for model in models), *_node_topics(found)],
            due=self._clock.now() + LONGEST,
            notification=_available(
                caller,
                [one for one in pipelines if one.id not in before["pipelines"]],
                [address for address in addresses if address not in before["nodes"]],
            ),
            report=_available(caller, pipelines, addresses),
        )


def begin(now: datetime) -> Wire:
    """What a new subscription remembers: whatever was there before is no news."""
    return {"since": now}


def check(body: Wire) -> None:
    """Refuse what cannot be told.

    Raises:
        InvalidRequest: an attribute makes no sense; NotSupported: advice for all pipelines is not offered.
    """
    event, rule = body["splitOpEventId"], body.get("reportReq", {})
    if event not in SplitOpEventId.values:
        raise InvalidRequest.of("/splitOpEventId", f"is none of {', '.join(SplitOpEventId.values)}")
    if event == ASSISTANCE_INFO and body["splitOpPipelineId"] == ANY:
        raise NotSupported("only one pipeline can be advised on, by what was measured of it")
    if "discFilters" in body:
        check_filters(body["discFilters"])
    elif event == AVAILABILITY:
        raise InvalidRequest.of("/discFilters", f"is needed for {AVAILABILITY}")
    standing = rule.get("notifMethod") == PERIODIC or rule.get("immRep")
    if standing and event == PIPELINE_INFO and body["splitOpPipelineId"] == ANY:
        raise InvalidRequest.of("/reportReq", "a report of how things stand has room for one pipeline")


def _became(pipeline: Pipeline, missing: Sequence[str], known: Wire | None, since: datetime) -> str | None:
    """The sub-event to tell of; None: nothing has happened since the subscription was made, or was told of."""
    if known is None:
        happened = CREATED if pipeline.created >= since else UPDATED
        return happened if pipeline.changed >= since else None
    same = (known["version"], known["missing"]) == (pipeline.version, missing)
    return None if same else UPDATED


def _notification(subscription: Subscription, change: Change, *, standing: bool = False) -> dict[str, Any]:
    whole = subscription.owner in change.pipeline.parties
    profile = profile_of(change.pipeline, change.missing, whole=whole)
    return notification(profile, None if standing else change.sub_event)


def _advice(pipeline: Pipeline) -> dict[str, Any]:
    """A SplitOpEventNotif of what was measured: seconds of one frame, frames per second."""
    measured = pipeline.deployment["measured"] if pipeline.deployment else {}
    quality = {name: measured[name] for name in ("latency", "throughput")}
    return {
        "splitOpEventId": ASSISTANCE_INFO,
        "assistanceInfo": {"achievableQoS": json.dumps(quality)},
    }


def _available(caller: Caller, pipelines: Sequence[Pipeline], nodes: Sequence[str]) -> dict[str, Any] | None:
    """A SplitOpEventNotif of these; None: there are none."""
    profiles = [profile_of(one, (), whole=caller.subject in one.parties) for one in pipelines]
    info: dict[str, Any] = {"splitOpProfile": profiles} if profiles else {}
    if nodes:
        info["availableNodes"] = " ".join(nodes)
    return {"splitOpEventId": AVAILABILITY, "availabilityInfo": info} if info else None


def _topics(subscription: Subscription, pipelines: Sequence[Pipeline]) -> list[str]:
    wanted = subscription.body["splitOpPipelineId"]
    new = [party_topic(subscription.owner), party_topic(ANY)] if wanted == ANY else [pipeline_topic(wanted)]
    return [*new, *(pipeline_topic(one.id) for one in pipelines), *_node_topics(pipelines)]


def _node_topics(pipelines: Sequence[Pipeline]) -> Iterator[str]:
    return map(node_topic, named(stages_of(pipelines)))

"""The events of TS 23.482 table 8.5.4-1 that are told of, each by comparing what there is with what was told. No I/O.

- availability: members that enter the list of those that are available, leave it, or state another capability;
- model information: models whose accuracy has reached the one that is asked for, or has changed since;
- load: members whose load has crossed the threshold, either way.

The standard has no names for them and no attributes for accuracy and load: the names are ours, and so is the member
`aimle` of an EvtContent, which a plain consumer ignores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aimle_server.procedures.fl_members import Member
from sbi.clock import to_wire

Wire = Mapping[str, Any]

AVAILABILITY = "FL_MEMBER_AVAILABILITY"
MODEL = "FL_MODEL_INFORMATION"
LOAD = "FL_MEMBER_LOAD"


@dataclass(frozen=True)
class Found:
    """What there is now of all that a subscription is about.

    Attributes:
        now: when.
        members: those that are available, by flMbrId.
        models: accuracy in per cent of those that have one, by mlModelId.
        loads: in per cent, of the members whose load is known.
    """

    now: datetime
    members: Mapping[str, Member]
    models: Mapping[str, float]
    loads: Mapping[str, int]


Told = Sequence[Wire]
"""What a subscriber was told last, one entry with an `id` for each member or model."""


@dataclass(frozen=True)
class Event:
    """One event of the table.

    Attributes:
        name: its `evtId`.
        remember: (FlEvtsSub, what there is) -> what a later look compares with.
        news: (FlEvtsSub, what was told, what there is) -> EvtContents of what has happened in between.
        whole: (FlEvtsSub, what there is) -> EvtContents of all of it, for a report.
    """

    name: str
    remember: Callable[[Wire, Found], list[dict[str, Any]]]
    news: Callable[[Wire, Told, Found], list[dict[str, Any]]]
    whole: Callable[[Wire, Found], list[dict[str, Any]]]


def events_of(body: Wire) -> Sequence[Event]:
    """The events that an FlEvtsSub asks for: the one that `evtId` names, else all."""
    named = [event for event in EVENTS if event.name == body["evtInfo"].get("evtId")]
    return named or EVENTS


def notification(body: Wire, event: str, contents: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """An FlEvtsNotif, under the subscriber's own name for the event if there is one."""
    return {
        "evtId": body["evtInfo"].get("evtId", event),
        "evtTime": to_wire(now),
        "evtContentList": contents,
    }


def _members(body: Wire, found: Found) -> list[dict[str, Any]]:
    return [
        {"id": name, "type": entry.type, "capability": entry.capability}
        for name, member in found.members.items()
        for entry in [member.entry(found.now)]
    ]


def _member_news(body: Wire, told: Told, found: Found) -> list[dict[str, Any]]:
    before = {one["id"]: one for one in told}
    left = [_info(one["id"], one["type"]) for name, one in before.items() if name not in found.members]
    leaving = [{**info, "flMbrEnterLeave": "LEAVING"} for info in left]
    if body["evtInfo"]["evtType"]["availFlMbr"] == "UNAVAILABLE":
        return leaving
    come = [member for name, member in found.members.items() if name not in before]
    entering = [{**_described(member, found), "flMbrEnterLeave": "ENTERING"} for member in come]
    return leaving + entering + _new_capabilities(before, found)


def _new_capabilities(before: Mapping[str, Wire], found: Found) -> list[dict[str, Any]]:
    changed = [
        (member, capability)
        for name, member in found.members.items()
        if name in before and (capability := member.entry(found.now).capability) != before[name]["capability"]
    ]
    return [
        {**_described(member, found), "flMbrCapabilityUpdated": capability}
        for member, capability in changed
        if capability is not None
    ]


def _all_members(body: Wire, found: Found) -> list[dict[str, Any]]:
    return [_described(member, found) for member in found.members.values()]


def _described(member: Member, found: Found) -> dict[str, Any]:
    """A member that is available: until when, and where, as far as it says so."""
    entry, until = member.entry(found.now), member.until(found.now)
    content: dict[str, Any] = _info(member.id, entry.type)
    if until is not None:
        content["flMbrTimeAvail"] = {"startTime": to_wire(found.now), "stopTime": to_wire(until)}
    if entry.location is not None:
        content["areaOfInterest"] = entry.location
    return content


def _info(member_id: str, member_type: str) -> dict[str, Any]:
    return {"flMbrInfo": {"flMbrId": member_id, "flMbrType": member_type}}


def _models(body: Wire, found: Found) -> list[dict[str, Any]]:
    """The models that are accurate enough; one that no longer is may reach it again."""
    enough = body["evtInfo"]["evtType"]["flMdlInfo"]["accuracy"]
    return [
        {"id": name, "accuracy": accuracy} for name, accuracy in found.models.items() if accuracy >= enough
    ]


def _model_news(body: Wire, told: Told, found: Found) -> list[dict[str, Any]]:
    before = {one["id"]: one["accuracy"] for one in told}
    return [_model(body, one) for one in _models(body, found) if before.get(one["id"]) != one["accuracy"]]


def _all_models(body: Wire, found: Found) -> list[dict[str, Any]]:
    return [_model(body, one) for one in _models(body, found)]


def _model(body: Wire, one: Wire) -> dict[str, Any]:
    """A model is nobody's in particular: the members that it is told of are those of the subscription."""
    details = {"mlModelId": one["id"], "accuracy": one["accuracy"]}
    return {"flMbrInfo": body["flMbrInfo"], "aimle": details}


def _loads(body: Wire, found: Found) -> list[dict[str, Any]]:
    threshold = body["evtInfo"]["evtType"]["flMbrLdInfo"]
    return [{"id": name, "high": load >= threshold} for name, load in found.loads.items()]


def _load_news(body: Wire, told: Told, found: Found) -> list[dict[str, Any]]:
    """A load that was not known before counts as a low one."""
    before = {one["id"]: one["high"] for one in told}
    crossed = [one["id"] for one in _loads(body, found) if before.get(one["id"], False) != one["high"]]
    return [_load(name, found) for name in crossed]


def _all_loads(body: Wire, found: Found) -> list[dict[str, Any]]:
    return [_load(name, found) for name in found.loads]


def _load(member_id: str, found: Found) -> dict[str, Any]:
    entry = found.members[member_id].entry(found.now)
    return {**_info(member_id, entry.type), "aimle": {"load": found.loads[member_id]}}


EVENTS = (
    Event(AVAILABILITY, _members, _member_news, _all_members),
    Event(MODEL, _models, _model_news, _all_models),
    Event(LOAD, _loads, _load_news, _all_loads),
)

"""Reporting rules: when a subscriber is told, and of what (TS 29.523 ReportingInformation).

One rule serves every kind of subscriptions: a look says what is new and how everything stands, and the rule which of
the two is told. What it has to remember is written with what it tells, so a report is neither lost nor doubled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from ml_repository.subscriptions import Looked, Subscription, Told
from sbi.clock import NEVER, from_wire
from sbi.errors import InvalidParam, InvalidRequest
from schemas.reporting import NotificationMethod

Wire = Mapping[str, Any]

PERIODIC, ONE_TIME, ON_EVENT_DETECTION = NotificationMethod.values

LONGEST_PERIOD = timedelta(days=365)

UNSUPPORTED = (
    "sampRatio",
    "partitionCriteria",
    "grpRepTime",
    "notifFlag",
    "notifFlagInstruct",
    "mutingSetting",
)
"""Who asks for these gets 400: to leave them out would tell more, or less, than was asked for."""


@dataclass(frozen=True)
class ReportingRule:
    """When a subscriber is told.

    Attributes:
        period: between two reports of how everything stands; None: told of news, as they come.
        at_once: told how everything stands as soon as the rule begins.
        most: how many reports there are before the subscription ends; None: any number.
        until: when it ends in any case.
    """

    period: timedelta | None = None
    at_once: bool = False
    most: int | None = None
    until: datetime = NEVER

    @classmethod
    def of(cls, wire: Wire) -> Self:
        """The rule that a ReportingInformation states."""
        method = wire.get("notifMethod", ON_EVENT_DETECTION)
        return cls(
            period=timedelta(seconds=wire["repPeriod"]) if method == PERIODIC else None,
            at_once=wire.get("immRep", False),
            most=1 if method == ONE_TIME else wire.get("maxReportNbr"),
            until=from_wire(wire["monDur"]) if "monDur" in wire else NEVER,
        )

    def first(self, now: datetime) -> datetime:
        """When everything is first told as it stands, if the rule begins now."""
        if self.at_once:
            return now
        return now + self.period if self.period else NEVER

    def after(self, due: datetime, now: datetime) -> datetime:
        """When it is told next, having been due then: on the beat of the periods, whichever were missed."""
        return due + self.period * ((now - due) // self.period + 1) if self.period else NEVER


def requirements(body: Wire) -> tuple[str, Wire]:
    """The ReportingInformation of a subscription and its place, which our member `aimle` is without the standard's."""
    if "reportReq" in body:
        return "/reportReq", body["reportReq"]
    return "/aimle/reportReq", body.get("aimle", {}).get("reportReq", {})


def granted_rule(body: Wire, now: datetime) -> ReportingRule:
    """The rule of a subscription that somebody asks for.

    Raises:
        InvalidRequest: it makes no sense, or is not supported.
    """
    place, wire = requirements(body)
    if wrong := [InvalidParam(f"{place}/{name}", reason) for name, reason in _wrong(wire, now)]:
        raise InvalidRequest.naming(wrong)
    return ReportingRule.of(wire)


def progress(body: Wire, before: Wire, now: datetime) -> Wire:
    """What a subscription that is made or changed now remembers of its reports, having remembered that `before`.

    Another rule begins anew; if it is told of news, what a period has kept back is told at once.
    """
    _, wire = requirements(body)
    if before.get("rule") == wire:
        return before
    rule = ReportingRule.of(wire)
    kept_back = before.get("next", NEVER) != NEVER and rule.period is None
    return {"rule": wire, "reports": 0, "next": now if kept_back else rule.first(now)}


def told(subscription: Subscription, looked: Looked, now: datetime) -> Told:
    """What the rule of a subscription makes of a look; after the last report it has ended."""
    rule, before = ReportingRule.of(requirements(subscription.body)[1]), subscription.reporting
    following, notification = before["next"], None
    if following <= now:
        notification, following = looked.report, rule.after(following, now)
    if notification is None and rule.period is None:
        notification = looked.notification
    reports = before["reports"] + (notification is not None)
    ended = rule.most is not None and reports >= rule.most
    return Told(
        notification=notification,
        due=now if ended else min(looked.due, following, subscription.expires),
        expires=now if ended else subscription.expires,
        reporting={**before, "reports": reports, "next": following},
    )


def _wrong(wire: Wire, now: datetime) -> Iterator[tuple[str, str]]:
    """The attributes of a ReportingInformation that cannot be granted, and why."""
    yield from ((name, "is not supported") for name in UNSUPPORTED if name in wire)
    method, longest = wire.get("notifMethod"), int(LONGEST_PERIOD.total_seconds())
    if method not in (None, *NotificationMethod.values):
        yield "notifMethod", f"is none of {', '.join(NotificationMethod.values)}"
    if method == PERIODIC and "repPeriod" not in wire:
        yield "repPeriod", "is needed for PERIODIC"
    if not 1 <= wire.get("repPeriod", 1) <= longest:
        yield "repPeriod", f"is not between 1 and {longest}"
    if wire.get("maxReportNbr") == 0:
        yield "maxReportNbr", "is not at least 1"
    if "monDur" in wire and from_wire(wire["monDur"]) <= now:
        yield "monDur", "is not in the future"

"""Reporting rules: what a subscriber is told of a look, and when the next one is due (TS 29.523)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aimle_server.procedures.reporting import ReportingRule, granted_rule, progress, told
from ml_repository.subscriptions import Looked, Subscription, Told
from sbi.clock import NEVER, to_wire
from sbi.errors import InvalidRequest
from tests.support import START

NEWS, WHOLE = {"is": "news"}, {"is": "whole"}
LATER = START + timedelta(days=1)
EVERY_10 = {"notifMethod": "PERIODIC", "repPeriod": 10}


def subscription(wire: Mapping[str, Any]) -> Subscription:
    """One with this ReportingInformation."""
    body = {"aimle": {"reportReq": wire}}
    return Subscription("s", "kind", "val", body, NEVER, {}, progress(body, {}, START))


def changed(one: Subscription, second: float, body: Mapping[str, Any]) -> Subscription:
    """The same with another resource from this second on."""
    return replace(one, body=body, reporting=progress(body, one.reporting, at(second)))


def look(
    one: Subscription, second: float, *, news: bool = True, there: bool = True
) -> tuple[Told, Subscription]:
    """A look at this second: what is told, and the subscription as it then is."""
    looked = Looked({}, [], LATER, NEWS if news else None, WHOLE if there else None)
    result = told(one, looked, at(second))
    return result, replace(one, reporting=result.reporting, expires=result.expires)


def at(second: float) -> Any:
    """So many seconds after the beginning."""
    return START + timedelta(seconds=second)


@pytest.mark.parametrize(
    ("wire", "rule"),
    [
        ({}, ReportingRule()),
        ({"notifMethod": "ON_EVENT_DETECTION", "repPeriod": 5}, ReportingRule()),
        (EVERY_10, ReportingRule(period=timedelta(seconds=10))),
        ({"notifMethod": "ONE_TIME"}, ReportingRule(most=1)),
        ({"notifMethod": "ONE_TIME", "maxReportNbr": 7, "immRep": True}, ReportingRule(most=1, at_once=True)),
        ({"maxReportNbr": 7, "immRep": False}, ReportingRule(most=7)),
        ({"monDur": "2030-01-02T01:00:00+01:00"}, ReportingRule(until=LATER)),
    ],
)
def test_what_the_wire_means(wire: dict[str, Any], rule: ReportingRule) -> None:
    """Without anything: news as they come, for ever; one report means one, whatever else is said."""
    assert (
        granted_rule({"reportReq": wire}, START)
        == granted_rule({"aimle": {"reportReq": wire}}, START)
        == rule
    )


@pytest.mark.parametrize(
    ("wire", "params"),
    [
        ({"notifMethod": "PERIODIC"}, ["repPeriod"]),
        (EVERY_10 | {"repPeriod": 0}, ["repPeriod"]),
        (EVERY_10 | {"repPeriod": 10**12}, ["repPeriod"]),
        ({"notifMethod": "SOMETIMES"}, ["notifMethod"]),
        ({"maxReportNbr": 0}, ["maxReportNbr"]),
        ({"monDur": to_wire(START)}, ["monDur"]),
        ({"sampRatio": 100, "partitionCriteria": ["TAC"]}, ["sampRatio", "partitionCriteria"]),
        ({"grpRepTime": 5}, ["grpRepTime"]),
        ({"notifFlag": "DEACTIVATE"}, ["notifFlag"]),
        ({"notifFlagInstruct": {}, "mutingSetting": {}}, ["notifFlagInstruct", "mutingSetting"]),
    ],
)
@pytest.mark.parametrize("place", ["reportReq", "aimle/reportReq"])
def test_what_cannot_be_granted_is_named(wire: dict[str, Any], params: list[str], place: str) -> None:
    """Where it stands in the request, each wrong attribute of it."""
    body = {"reportReq": wire} if place == "reportReq" else {"aimle": {"reportReq": wire}}
    with pytest.raises(InvalidRequest) as refused:
        granted_rule(body, START)
    assert [one.param for one in refused.value.invalid_params] == [f"/{place}/{name}" for name in params]


def test_news_as_they_come() -> None:
    """By default, and for as long as the subscription lasts; a look without news tells nothing."""
    first, one = look(subscription({}), 0)
    assert (first.notification, first.due, first.expires) == (NEWS, LATER, NEVER)
    second, _ = look(one, 1, news=False)
    assert second.notification is None


def test_at_once_means_the_whole_first_and_news_then() -> None:
    """One report at the beginning; where there is nothing to report, the first news are told as ever."""
    first, one = look(subscription({"immRep": True}), 0)
    second, one = look(one, 1)
    assert [first.notification, second.notification] == [WHOLE, NEWS]
    nothing, one = look(subscription({"immRep": True}), 0, news=False, there=False)
    later, _ = look(one, 1)
    assert [nothing.notification, later.notification] == [None, NEWS]


def test_periods_keep_their_beat() -> None:
    """Nothing in between, whatever the news; a late look moves no later period, and missed ones do not pile up."""
    result, one = look(subscription(EVERY_10), 0)
    assert (result.notification, result.due) == (None, at(10))
    for second, notification, due in (
        (9.9, None, 10),
        (12, WHOLE, 20),
        (13, None, 20),
        (20, WHOLE, 30),
        (95, WHOLE, 100),
        (96, None, 100),
        (100, WHOLE, 110),
    ):
        result, one = look(one, second)
        assert (result.notification, result.due) == (notification, at(due)), second


def test_a_period_with_nothing_to_report() -> None:
    """Nothing is sent, nothing is counted, and the next period is as it was."""
    one = subscription(EVERY_10 | {"immRep": True, "maxReportNbr": 2})
    sent = []
    for second, there in ((0, True), (10, False), (20, True)):
        result, one = look(one, second, news=False, there=there)
        sent.append((result.notification, result.expires == at(second)))
    assert sent == [(WHOLE, False), (None, False), (WHOLE, True)]


@pytest.mark.parametrize(
    ("wire", "told_in_order"),
    [
        ({"notifMethod": "ONE_TIME"}, [NEWS]),
        ({"notifMethod": "ONE_TIME", "immRep": True}, [WHOLE]),
        ({"maxReportNbr": 2}, [NEWS, NEWS]),
        ({"maxReportNbr": 2, "immRep": True}, [WHOLE, NEWS]),
    ],
)
def test_the_last_report_ends_it(wire: dict[str, Any], told_in_order: list[Any]) -> None:
    """It expires in the moment in which the last one is written, and not before, and is looked at for its end."""
    one = subscription(wire)
    for second, notification in enumerate(told_in_order):
        result, one = look(one, second)
        assert result.notification == notification
        assert (result.expires == at(second)) is (second == len(told_in_order) - 1)
    assert result.due == at(second)


def test_it_is_looked_at_when_it_expires() -> None:
    """However late the next look would be."""
    one = replace(subscription({}), expires=at(5))
    assert look(one, 0)[0].due == at(5)


def test_another_rule_begins_anew() -> None:
    """Its reports are counted from one, its periods begin now, and what a period kept back is told at once."""
    _, one = look(subscription({"maxReportNbr": 2}), 0)
    _, one = look(changed(one, 1, {"reportReq": {"maxReportNbr": 3}}), 1)
    result, one = look(one, 2)
    assert result.expires == NEVER
    result, one = look(changed(one, 3, {"reportReq": EVERY_10}), 5)
    assert (result.notification, result.due) == (None, at(13))
    result, one = look(changed(one, 6, {"reportReq": EVERY_10, "notifUri": "http://val/"}), 6)
    assert (result.notification, result.due) == (None, at(13)), "the same rule goes on"
    result, _ = look(changed(one, 7, {}), 7)
    assert result.notification == WHOLE


def test_a_subscription_that_was_stored_without_a_rule() -> None:
    """It is told of news, as ever."""
    document = {
        "_id": "s",
        "kind": "kind",
        "owner": "val",
        "body": {},
        "expires": NEVER,
        "state": {},
        "due": START,
    }
    result, _ = look(Subscription.of(document), 0)
    assert (result.notification, result.expires) == (NEWS, NEVER)

"""When subscribers are told, at a whole server: periodically, once, at once, so many times, until then (TS 29.523)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from ml_repository.database import Database
from sbi.clock import to_wire
from tests.support import START, eventually
from tests.support_clients import Json
from tests.support_selections import SUBSCRIPTIONS, World, open_world

MINUTE = {"notifMethod": "PERIODIC", "repPeriod": 60}


@pytest.fixture
async def world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Nobody is there yet."""
    async with open_world(mongo_url, database) as opened:
        yield opened


def reporting(**requirements: Any) -> Json:
    """The extension of a subscription."""
    return {"aimle": {"reportReq": requirements}}


async def joined(world: World, *names: str) -> None:
    """Return when these clients have been selected, by what they were asked, and the time has moved a little."""

    def asked() -> bool:
        world.clock.advance(0.02)
        return all("JOIN" in world.told(name) for name in names)

    await eventually(asked)


async def until_reports(world: World, number: int) -> list[set[str]]:
    """Who is selected, by each of the notifications, as soon as there are so many."""

    def told() -> bool:
        world.clock.advance(0.02)
        return len(world.val.bodies) >= number

    await eventually(told)
    assert all(report["replaced"] == "" for body in world.val.bodies for report in body["reports"])
    return [{report["selected"] for report in body["reports"]} for body in world.val.bodies]


async def test_periodically(world: World) -> None:
    """Each minute all that are selected, and nothing in between, whoever comes and goes."""
    await world.add("ue-1")
    await world.subscribe(**reporting(**MINUTE))
    await joined(world, "ue-1")
    world.clock.advance(61)
    assert await until_reports(world, 1) == [{"ue-1"}]
    await world.add("ue-2")
    await joined(world, "ue-2")
    await world.call("DELETE", world.registrations["ue-1"])
    await eventually(lambda: world.told("ue-1") == ["JOIN", "DEPART"])
    world.clock.advance(60)
    assert await until_reports(world, 2) == [{"ue-1"}, {"ue-2"}]
    await world.call("DELETE", world.registrations["ue-2"])
    world.clock.advance(60)
    assert await until_reports(world, 3) == [{"ue-1"}, {"ue-2"}, {""}], "nobody is left"


async def test_periods_after_a_pause(world: World) -> None:
    """What was missed while time stood still for the server is one report, and the beat is the old one."""
    await world.add("ue-1")
    await world.subscribe(**reporting(**MINUTE))
    await joined(world, "ue-1")
    for number, seconds in enumerate((61, 60 * 10, 60), start=1):
        world.clock.advance(seconds)
        assert await until_reports(world, number) == [{"ue-1"}] * number
    at = [body["timeStamp"][:16] for body in world.val.bodies]
    assert at == ["2030-01-01T00:01", "2030-01-01T00:11", "2030-01-01T00:12"]


async def test_once(world: World) -> None:
    """The first news end it: the resource is gone, the clients depart, and yet the notification arrives."""
    world.val.answers = [503]
    await world.add("ue-1")
    uri = await world.subscribe(**reporting(notifMethod="ONE_TIME"))
    await eventually(lambda: world.told("ue-1") == ["JOIN", "DEPART"])
    assert (await world.call("GET", uri))[0] == 404
    assert (await world.call("PATCH", uri, {"reqNum": 1}))[0] == 404

    def again() -> bool:
        world.clock.advance(1)
        return len(world.val.bodies) == 2

    await eventually(again)
    first, second = world.val.bodies
    assert first == second
    assert [report["selected"] for report in first["reports"]] == ["ue-1"]


async def test_at_once_and_so_many_times(world: World) -> None:
    """How it stands, then the news, until there have been as many as were asked for."""
    uri = await world.subscribe(**reporting(immRep=True, maxReportNbr=3))
    assert await until_reports(world, 1) == [{""}]
    for number, name in enumerate(("ue-1", "ue-2"), start=2):
        assert (await world.call("GET", uri))[0] == 200
        await world.add(name)
        assert (await until_reports(world, number))[-1] == {name}
    assert (await world.call("GET", uri))[0] == 404
    await eventually(lambda: world.told("ue-1") == world.told("ue-2") == ["JOIN", "DEPART"])


async def test_until_then(world: World) -> None:
    """`monDur` ends it as `expTime` does, whichever is sooner."""
    ten, twenty = (to_wire(START + timedelta(minutes=minutes)) for minutes in (10, 20))
    first = await world.subscribe(**reporting(monDur=ten), expTime=twenty)
    second = await world.subscribe(**reporting(monDur=twenty), expTime=ten)
    third = await world.subscribe(**reporting(monDur=ten))
    for uri in (first, second, third):
        assert (await world.call("GET", uri))[0] == 200
    await world.add("ue-1")

    def told(*parts: str) -> bool:
        world.clock.advance(0.02)
        return sorted(world.told("ue-1")) == sorted(parts)

    await eventually(lambda: told(*["JOIN"] * 3))
    await eventually(lambda: len(world.val.bodies) == 3)
    world.clock.advance(601)
    for uri in (first, second, third):
        assert (await world.call("GET", uri))[0] == 404
    await eventually(lambda: told(*["JOIN"] * 3, *["DEPART"] * 3))


async def test_another_rule(world: World) -> None:
    """A patch changes the rule, or removes it; what a period has kept back is told at once."""
    await world.add("ue-1")
    uri = await world.subscribe(**reporting(**MINUTE))
    await joined(world, "ue-1")
    assert (await world.call("PATCH", uri, reporting(repPeriod=10)))[1]["aimle"]["reportReq"][
        "repPeriod"
    ] == 10
    world.clock.advance(5)
    await world.add("ue-2")
    await joined(world, "ue-2")
    assert not world.val.bodies
    status, body, _ = await world.call("PATCH", uri, {"aimle": None})
    assert (status, "aimle" in body) == (200, False)
    assert await until_reports(world, 1) == [{"ue-1", "ue-2"}]
    await world.add("ue-3")
    assert await until_reports(world, 2) == [{"ue-1", "ue-2"}, {"ue-3"}]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"notifMethod": "PERIODIC"}, "/aimle/reportReq/repPeriod"),
        ({"monDur": to_wire(START)}, "/aimle/reportReq/monDur"),
        ({"maxReportNbr": 0}, "/aimle/reportReq/maxReportNbr"),
        ({"sampRatio": 50}, "/aimle/reportReq/sampRatio"),
        ({"sampRatio": 101}, "/aimle/reportReq/sampRatio"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(world: World, wrong: Json, param: str) -> None:
    """When it is subscribed and when it is changed; the subscription stays as it was."""
    uri = await world.subscribe(reqNum=1)
    before = (await world.call("GET", uri))[1]
    for method, path, body in (
        ("POST", SUBSCRIPTIONS, before | reporting(**wrong)),
        ("PUT", uri, before | reporting(**wrong)),
        ("PATCH", uri, reporting(**wrong)),
    ):
        status, problem, _ = await world.call(method, path, body)
        assert (status, [one["param"] for one in problem["invalidParams"]]) == (400, [param]), method
    assert (await world.call("GET", uri))[1] == before

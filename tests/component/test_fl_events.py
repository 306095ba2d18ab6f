"""Subscriptions to FL events at a whole server: members that come, change and go (TS 23.482 8.5)."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from aimle_server.procedures import fl_event_subscriptions
from ml_repository.database import Database
from ml_repository.repository import Repository
from tests.support import START, Listener, ManualClock
from tests.support_clients import SERVICE
from tests.support_fl_events import (
    ENTERING,
    LEAVING,
    STORAGES,
    SUBSCRIPTIONS,
    Json,
    World,
    event,
    fl_world,
    subscription,
    window,
)
from tests.support_fl_members import CAPABILITY, fl_mbr

FIRST_HOUR = [{"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "01:00:00Z"}]
SECOND_HOUR = [{"timeOfDayStart": "01:00:00Z", "timeOfDayEnd": "02:00:00Z"}]
PLACE = {"cellIds": ["cell-1"]}


@pytest.fixture
async def world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Nobody is there yet."""
    async with fl_world(mongo_url, database) as found:
        yield found


async def test_who_is_there_and_who_comes(world: World) -> None:
    """Members of both registers enter, at the beginning and later; who does not train by FL is none."""
    await world.client("ue-1")
    await world.member("val-1", flMbrLocation=PLACE)
    await world.client("ue-infers", aimlOperations=["MODEL_INFERENCE"])
    await world.client("ue-splits", clientCap={**CAPABILITY, "mlAppType": "SPLIT_LEARNING"})
    await world.member("val-serves", suppAimlRole="FL_SERVER")
    await world.subscribe()
    await world.until_moved(("ue-1", ENTERING), ("val-1", ENTERING))
    assert {
        "flMbrInfo": {"flMbrId": "val-1", "flMbrType": "FL_CLIENT"},
        "flMbrEnterLeave": ENTERING,
        "areaOfInterest": PLACE,
    } in world.contents()
    await world.client("ue-2")
    await world.member("val-2")
    await world.until_moved(*((name, ENTERING) for name in ("ue-1", "val-1", "ue-2", "val-2")))


async def test_a_member_of_both_registers_is_one(world: World) -> None:
    """It enters once, and leaves when neither register has it any more."""
    await world.client("one")
    registration = world.uris.pop("one")
    await world.member("one")
    await world.subscribe()
    await world.until_moved(("one", ENTERING))
    await world.leave("one")
    await world.client("another")
    await world.until_moved(("one", ENTERING), ("another", ENTERING))
    world.uris["one"] = registration
    await world.leave("one")
    await world.until_moved(("one", ENTERING), ("another", ENTERING), ("one", LEAVING))


@pytest.mark.parametrize("register", ["client", "member"])
async def test_one_member_by_its_name(world: World, register: str) -> None:
    """Who is named is told of, as often as it comes and goes, and nobody else is."""
    await world.subscribe(flMbrInfo={"flMbrId": "one"})
    join = getattr(world, register)
    await join("another")
    await join("one")
    await world.until_moved(("one", ENTERING))
    await world.leave("one")
    await world.until_moved(("one", ENTERING), ("one", LEAVING))
    await join("one")
    await world.until_moved(("one", ENTERING), ("one", LEAVING), ("one", ENTERING))


@pytest.mark.parametrize(
    ("register", "statements"),
    [
        ("client", {"availTimeSchedCfgs": FIRST_HOUR}),
        ("client", {"unavblTimeSchedCfgs": SECOND_HOUR}),
        ("member", {"flMbrAvailSch": FIRST_HOUR}),
        ("member", {"timeValidity": window(0, 1)}),
        ("member", {"timeValidity": window(-5, 20), "flMbrAvailSch": FIRST_HOUR}),
    ],
    ids=["hours", "other hours", "hours of a member", "validity", "hours within validity"],
)
async def test_what_ends_by_itself(world: World, register: str, statements: Json) -> None:
    """Nobody says anything and yet a member leaves, at the moment that was told when it entered."""
    await getattr(world, register)("one", **statements)
    await world.subscribe()
    await world.until_moved(("one", ENTERING))
    assert world.contents()[0]["flMbrTimeAvail"]["stopTime"] == window(ends=1)["stopTime"]
    world.clock.advance(3590)
    await world.client("somebody else")  # so that there is a look
    await world.until_moved(("one", ENTERING), ("somebody else", ENTERING))
    world.clock.advance(10)
    await world.until_moved(("one", ENTERING), ("somebody else", ENTERING), ("one", LEAVING))


async def test_a_registration_that_expires(world: World) -> None:
    """A client that is not heard of any more leaves; until when it is registered is no end of its availability."""
    await world.client("ue-1")
    await world.subscribe()
    await world.until_moved(("ue-1", ENTERING))
    assert "flMbrTimeAvail" not in world.contents()[0]
    world.clock.advance(24 * 3600)
    await world.until_moved(("ue-1", ENTERING), ("ue-1", LEAVING))


@pytest.mark.parametrize(
    ("register", "statements"),
    [
        ("client", {"availTimeSchedCfgs": SECOND_HOUR}),
        ("member", {"flMbrAvailSch": SECOND_HOUR}),
        ("member", {"timeValidity": window(1, 2)}),
    ],
    ids=["hours of a client", "hours of a member", "validity"],
)
async def test_what_begins_by_itself(world: World, register: str, statements: Json) -> None:
    """Who is registered for later enters when its time begins."""
    await getattr(world, register)("later", **statements)
    await world.client("now")
    await world.subscribe()
    await world.until_moved(("now", ENTERING))
    world.clock.advance(3600)
    await world.until_moved(("now", ENTERING), ("later", ENTERING))


@pytest.mark.parametrize(
    ("register", "other"),
    [
        ("client", {"aimlOperations": ["MODEL_INFERENCE"]}),
        ("client", {"service": "other"}),
        ("member", {"suppAimlRole": "FL_SERVER"}),
        ("member", {"supMlModelId": ["another-model"]}),
    ],
    ids=["operation", "service", "role", "model"],
)
async def test_who_states_something_else_leaves(world: World, register: str, other: Json) -> None:
    """A member that is no longer one of those that are wanted leaves, and enters again when it is."""
    join = getattr(world, register)
    await join("one")
    await world.subscribe(mlMdlInfo={"mlModelId": "m", "interopInfo": "any", "valServiceIds": [SERVICE]})
    await world.until_moved(("one", ENTERING))
    await join("one", **other)
    await world.until_moved(("one", ENTERING), ("one", LEAVING))
    await join("one")
    await world.until_moved(("one", ENTERING), ("one", LEAVING), ("one", ENTERING))


async def test_more_members_than_are_followed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones stay; when one of them leaves, another takes its place."""
    monkeypatch.setattr(fl_event_subscriptions, "MAX_MEMBERS", 2)
    for name in ("ue-1", "ue-2", "ue-3"):
        await world.client(name)
    await world.subscribe()
    await world.until(lambda: len(world.moves()) == 2)
    first, second = (name for name, _ in world.moves())
    [other] = {"ue-1", "ue-2", "ue-3"} - {first, second}
    await world.client(second)  # which has it looked at, to no effect
    await world.leave(first)
    await world.until_moved((first, ENTERING), (second, ENTERING), (first, LEAVING), (other, ENTERING))


async def test_only_members_for_the_model(world: World) -> None:
    """A member that names its models counts for those, a client for the services that it works for."""
    await world.member("for-m", supMlModelId=["other", "m"])
    await world.member("for-another", supMlModelId=["other"])
    await world.member("for-any")
    await world.client("ue-of-service")
    await world.client("ue-of-another", service="other")
    model = {"mlModelId": "m", "interopInfo": "any", "valServiceIds": ["no-service", SERVICE]}
    await world.subscribe(mlMdlInfo=model)
    names = ("for-m", "for-any", "ue-of-service")
    await world.until_moved(*((name, ENTERING) for name in names))
    await world.client("ue-2-of-service")
    await world.until_moved(*((name, ENTERING) for name in (*names, "ue-2-of-service")))


async def test_only_members_whose_hours_meet_the_training(world: World) -> None:
    """One that is never available while the model is trained is none of them, also while it is available."""
    await world.client("ue-1", availTimeSchedCfgs=FIRST_HOUR)
    await world.client("ue-2")
    await world.subscribe(evtInfo=event(schedule=SECOND_HOUR))
    await world.until_moved(("ue-2", ENTERING))


async def test_a_new_capability(world: World) -> None:
    """It is told when a member states another one, not when it states the same."""
    await world.client("ue-1")
    await world.member("val-1")
    await world.subscribe(flMbrInfo={"flMbrType": "FL_CLIENT"})
    await world.until_moved(("ue-1", ENTERING), ("val-1", ENTERING))
    better = {**CAPABILITY, "rsrcUsageLvl": "PREMIUM_RESOURCE_USAGE"}
    await world.client("ue-1", dataSetAvail={"dataSetIds": ["other"]})
    await world.member("val-1", flMbrCapability=better)
    await world.until(lambda: len(world.contents()) == 3)
    assert world.contents()[-1] == {
        "flMbrInfo": {"flMbrId": "val-1", "flMbrType": "FL_CLIENT"},
        "flMbrCapabilityUpdated": better,
    }


async def test_only_those_that_leave(world: World) -> None:
    """Who subscribes to unavailability is not told of who comes."""
    await world.client("ue-1")
    await world.subscribe(evtInfo=event(availFlMbr="UNAVAILABLE"))
    await world.client("ue-2")
    await world.subscribe()
    await world.until_moved(("ue-1", ENTERING), ("ue-2", ENTERING))
    await world.leave("ue-2")
    await world.until_moved(("ue-1", ENTERING), ("ue-2", ENTERING), ("ue-2", LEAVING), ("ue-2", LEAVING))


async def test_several_events_at_once(world: World) -> None:
    """Who asks for all events is told of each under its name, at once, one after the other."""
    model = {
        "mlModelId": "m",
        "interopInfo": "any",
        "phaseInfo": {"phase": "TRAINED", "observedPerf": {"resourceAddr": 90}},
    }
    status, _, _ = await world.call("POST", STORAGES, {"mlModels": [{"mlModelInfo": model}]})
    assert status == 201
    await world.client("ue-1")
    before = world.clock.now()
    await world.subscribe(evtInfo=event(accuracy=90))
    await world.until(lambda: world.contents("FL_MODEL_INFORMATION") and world.moves())
    assert world.moves() == [("ue-1", ENTERING)]
    [content] = world.contents("FL_MODEL_INFORMATION")
    assert content["aimle"] == {"mlModelId": "m", "accuracy": 90}
    assert world.clock.now() - before < timedelta(seconds=30), "nobody has waited for the next look at loads"


async def test_names_of_the_subscriber_s_own(world: World) -> None:
    """A text that names no event comes back in each notification."""
    await world.client("ue-1")
    await world.subscribe(evtInfo=event("my event 7"))
    await world.until(lambda: world.contents("my event 7"))
    [content] = world.contents("my event 7")
    assert content["flMbrEnterLeave"] == ENTERING


async def test_its_time(world: World) -> None:
    """Nothing is told before startTime, everything that is so then; from stopTime on it is gone."""
    await world.client("ue-1")
    uri = await world.subscribe(timeValidity=window(1, 2))
    other = await world.subscribe(flMbrInfo={"flMbrId": "ue-2"})
    await world.client("ue-2")
    await world.until_moved(("ue-2", ENTERING))
    world.clock.advance(3600)
    await world.until_moved(("ue-2", ENTERING), ("ue-1", ENTERING), ("ue-2", ENTERING))
    world.clock.advance(3600)
    assert (await world.call("GET", uri))[0] == 404
    assert (await world.call("GET", other))[0] == 200
    await world.leave("ue-1")
    await world.leave("ue-2")
    await world.until(lambda: ("ue-2", LEAVING) in world.moves())
    assert ("ue-1", LEAVING) not in world.moves()


async def test_a_change_counts_at_once(world: World) -> None:
    """PATCH and PUT answer what is granted, and other members are told of from then on."""
    await world.client("ue-1")
    await world.member("val-1", suppAimlRole="FL_SERVER")
    uri = await world.subscribe()
    await world.until_moved(("ue-1", ENTERING))
    status, body, _ = await world.call("PATCH", uri, {"flMbrInfo": {"flMbrType": "FL_SERVER"}})
    assert (status, body["flMbrInfo"]) == (200, {"flMbrType": "FL_SERVER"})
    await world.until_moved(("ue-1", ENTERING), ("ue-1", LEAVING), ("val-1", ENTERING))
    async with Listener() as elsewhere:
        other = subscription(notifUri=elsewhere.url(), flMbrInfo={"flMbrId": "ue-2"})
        assert (await world.call("PUT", uri, other))[:2] == (200, other)
        await world.client("ue-2")
        await world.until(lambda: len(_contents(elsewhere)) == 2)
        left, come = (content["flMbrInfo"]["flMbrId"] for content in _contents(elsewhere))
        assert (left, come) == ("val-1", "ue-2")


async def test_unsubscribing(world: World) -> None:
    """Nothing more is told, and the resource is gone."""
    uri = await world.subscribe()
    await world.client("ue-1")
    await world.until_moved(("ue-1", ENTERING))
    assert (await world.call("DELETE", uri))[0] == 204
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"evtInfo": event()})):
        assert (await world.call(method, uri, body))[0] == 404
    await world.leave("ue-1")
    await world.subscribe()
    await world.client("ue-2")
    await world.until(lambda: ("ue-2", ENTERING) in world.moves())
    assert ("ue-1", LEAVING) not in world.moves()


async def test_energy_is_not_supported(world: World) -> None:
    """The answer says so: no feature, no energyReqs, also when they come with a change."""
    energy = {"energyReqs": {"energySource": "WIND", "energyTarget": {"minRatio": 60}}}
    whole = subscription(notifUri=world.subscriber.url(), suppFeat="1")
    status, granted, uri = await world.call("POST", SUBSCRIPTIONS, whole | energy)
    assert (status, granted) == (201, {**whole, "suppFeat": "0"})
    assert (await world.call("PATCH", uri, energy))[:2] == (200, granted)
    assert (await world.call("GET", uri))[:2] == (200, granted)


async def test_told_again_until_it_is_acknowledged(world: World) -> None:
    """A subscriber that fails gets the same notification once more, and what comes after it afterwards."""
    world.subscriber.answers = [500, 503]
    await world.subscribe(evtInfo=event("FL_MEMBER_AVAILABILITY"))
    await world.client("ue-1")
    await world.until(lambda: world.subscriber.bodies)
    await world.client("ue-2")
    await world.until(lambda: len(world.subscriber.bodies) == 4)
    first, second, third, last = world.subscriber.bodies
    assert first == second == third != last
    assert world.moves()[-2:] == [("ue-1", ENTERING), ("ue-2", ENTERING)]


async def test_who_has_left_stays_until_that_is_followed(database: Database) -> None:
    """Cleaning up leaves members that are gone, but nobody sees them, until whoever follows them has seen it."""
    repository = await Repository.open(database, ManualClock(), lambda: "id")
    members, minute = repository.fl_members, timedelta(minutes=1)
    for name in ("leaves", "stays"):
        assert await members.register(f"c-{name}", "val", fl_mbr(name), START)
    await repository.positions.claim("fl_members", "process", START, START, START + minute)
    assert await members.delete("c-leaves", "val", START + minute)
    await repository.remove_expired(START + 2 * minute)
    assert not await members.delete("c-leaves", "val", START + 2 * minute)
    assert set(await members.by_ids(["leaves", "stays"], START + 2 * minute)) == {"stays"}
    [left] = await members.events(START, START + 2 * minute)
    assert (left.id, left.at) == ("leaves", START + minute)
    await repository.positions.claim("fl_members", "process", START + minute, START + minute, START + minute)
    await repository.remove_expired(START + 2 * minute)
    assert await members.events(START, START + 2 * minute) == []


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"timeValidity": window(-2, -1)}, "/timeValidity/stopTime"),
        ({"timeValidity": window(2, 1)}, "/timeValidity/stopTime"),
        ({"evtInfo": event(accuracy=101)}, "/evtInfo/evtType/flMdlInfo/accuracy"),
        ({"notifUri": "ftp://val.example/"}, "/notifUri"),
        ({"flMbrInfo": {}}, "/flMbrInfo/flMbrId"),
        ({"aimle": {"reportReq": {"notifMethod": "PERIODIC"}}}, "/aimle/reportReq/repPeriod"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(world: World, wrong: Json, param: str) -> None:
    """And nothing is subscribed."""
    status, problem, _ = await world.call(
        "POST", SUBSCRIPTIONS, subscription(notifUri=world.subscriber.url()) | wrong
    )
    assert status == 400
    assert param in {one["param"] for one in problem["invalidParams"]}


async def test_periodic_reports(world: World) -> None:
    """Who asks for reports gets all members as they stand, each time, and no news in between."""
    await world.client("ue-1")
    await world.subscribe(evtInfo=event(), aimle={"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 60}})

    def reported() -> list[str]:
        """The members of the last report."""
        contents = world.subscriber.bodies[-1]["evtContentList"] if world.subscriber.bodies else []
        return sorted(content["flMbrInfo"]["flMbrId"] for content in contents)

    for names in (["ue-1"], ["ue-1", "ue-2"]):
        await world.until(lambda names=names: reported() == names, step=2)
        await world.client("ue-2")
    assert world.moves() == []
    assert {body["evtId"] for body in world.subscriber.bodies} == {"FL_MEMBER_AVAILABILITY"}


def _contents(listener: Listener) -> list[Json]:
    """All EvtContents that it was sent, in order."""
    return [content for body in listener.bodies for content in body["evtContentList"]]

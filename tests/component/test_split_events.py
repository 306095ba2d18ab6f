"""Split operation event subscriptions at a whole server (TS 23.482 8.14.2.5)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ml_repository.database import Database
from sbi.clock import to_wire
from tests.support import START, eventually
from tests.support_split_pipelines import (
    DISCOVERY,
    EVENTS,
    OTHER,
    Json,
    SplitWorld,
    node,
    split_world,
    stage,
    valid,
)


@pytest.fixture
async def world(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[SplitWorld]:
    """A model for everybody; no node is there yet."""
    async with split_world(mongo_url, database, tmp_path / "key.pem") as opened:
        await opened.store()
        yield opened


async def test_the_life_of_a_pipeline(world: SplitWorld) -> None:
    """Who subscribed to all hears that one was made, changed, degraded and deleted; one by its id, from then on."""
    ue, edge = await world.add_node("ue"), await world.add_node("edge", timeValidity=valid(0, 1))
    await world.subscribe()
    profile, location = await world.create(stage(ue))
    pipeline = profile["splitOpPipelineId"]
    await world.until_told(("CREATED", pipeline, "READY"))
    world.clock.advance(1)
    await world.subscribe("/one", pipeline)
    body = {
        "requestorId": "a",
        "notifUri": world.val.url("/own"),
        "splitOpRequirements": {"stageInfo": [stage(edge)]},
    }
    assert (await world.call("PUT", location, body))[0] == 200
    changed = ("CREATED", pipeline, "READY"), ("UPDATED", pipeline, "READY")
    await world.until_told(*changed)
    for path in ("/one", "/own"):
        await world.until_told(*changed[1:], path=path)
    world.clock.advance(3600)
    degraded = *changed, ("UPDATED", pipeline, "DEGRADED")
    await world.until_told(*degraded)
    for path in ("/one", "/own"):
        await world.until_told(*degraded[1:], path=path)
    assert (await world.call("DELETE", location))[0] == 204
    await eventually(lambda: len(world.told()) == 4)
    assert world.told()[:3] == list(degraded)
    assert world.told()[3][:2] == ("DELETED", pipeline)
    await eventually(
        lambda: [event for event, _, _ in world.told("/one")] == ["UPDATED", "UPDATED", "DELETED"]
    )
    assert [event for event, _, _ in world.told("/own")] == ["UPDATED", "UPDATED"], "it deleted it itself"


async def test_what_was_there_before_is_no_news(world: SplitWorld) -> None:
    """Who subscribes is told of what happens from then on; with `immRep`, how the one pipeline stands first."""
    ue = await world.add_node("ue")
    old, location = await world.create(stage(ue))
    world.clock.advance(1)
    await world.subscribe()
    await world.subscribe("/standing", old["splitOpPipelineId"], reportReq={"immRep": True})
    await world.until_told(("", old["splitOpPipelineId"], "READY"), path="/standing")
    new, _ = await world.create(stage(ue))
    await world.until_told(("CREATED", new["splitOpPipelineId"], "READY"))
    assert (await world.call("DELETE", location))[0] == 204
    await world.until_told(
        ("CREATED", new["splitOpPipelineId"], "READY"), ("DELETED", old["splitOpPipelineId"], "READY")
    )


async def test_many_at_once(world: SplitWorld) -> None:
    """Each pipeline that was made has its own notification, however many were made together."""
    ue = await world.add_node("ue")
    await world.subscribe()
    made = [(await world.create(stage(ue)))[0]["splitOpPipelineId"] for _ in range(5)]
    await eventually(lambda: len(world.told()) == 5)
    assert sorted(world.told()) == sorted(("CREATED", pipeline, "READY") for pipeline in made)


async def test_who_may_hear(world: SplitWorld) -> None:
    """The owner, who registered a node of it, and all who may have its models if it is for several clients."""
    await world.store("private", storeDiscReqs={"duration": 3600})
    ue, theirs = await world.add_node("ue", "*"), await world.add_node("theirs", caller=OTHER)
    await world.subscribe("/theirs", caller=OTHER)
    await world.create(stage(ue))
    await world.create(stage(ue, model="private"), aimle={"multiClient": True})
    part, _ = await world.create(stage(theirs))
    public, _ = await world.create(stage(ue), aimle={"multiClient": True})
    await world.subscribe("/by-name", part["splitOpPipelineId"], OTHER)
    await eventually(lambda: len(world.told("/theirs")) == 2)
    assert {pipeline for _, pipeline, _ in world.told("/theirs")} == {
        part["splitOpPipelineId"],
        public["splitOpPipelineId"],
    }


async def test_filters(world: SplitWorld) -> None:
    """Only pipelines of these models and with so many nodes are told of."""
    await world.store("other")
    ue, edge = await world.add_node("ue", "*"), await world.add_node("edge", "*")
    filters = {"stageInfo": [stage("http://any.example/")], "minNodes": "2"}
    await world.subscribe(discFilters=filters)
    await world.create(stage(ue))
    await world.create(stage(ue, edge, model="other"))
    wanted, _ = await world.create(stage(ue, edge))
    await world.until_told(("CREATED", wanted["splitOpPipelineId"], "READY"))


async def test_reports(world: SplitWorld) -> None:
    """Periodic ones tell how a pipeline stands; after so many the subscription has ended."""
    ue = await world.add_node("ue")
    profile, _ = await world.create(stage(ue))
    rule = {"notifMethod": "PERIODIC", "repPeriod": 60, "maxReportNbr": 2}
    location = await world.subscribe("/periodic", profile["splitOpPipelineId"], reportReq=rule)
    standing = ("", profile["splitOpPipelineId"], "READY")
    for number in (1, 2):
        world.clock.advance(60)
        await world.until_told(*[standing] * number, path="/periodic")
    assert (await world.call("GET", location))[0] == 404
    once = await world.subscribe("/once", reportReq={"notifMethod": "ONE_TIME"})
    for _ in range(2):
        await world.create(stage(ue))
    await eventually(lambda: world.told("/once"))
    assert (await world.call("GET", once))[0] == 404


async def test_availability(world: SplitWorld) -> None:
    """Nodes and pipelines that meet the filters are told of as they become available, and again when they return."""
    filters = {"stageInfo": [stage("http://any.example/")]}
    await world.subscribe("/free", splitOpEventId="SPLIT_OP_AVAILABILITY", discFilters=filters)
    ue = await world.add_node("ue")
    await world.add_node("unable", model="other")
    await _until_available(world, {"availableNodes": ue})
    profile, _ = await world.create(stage(ue))
    await _until_available(world, {"availableNodes": ue}, {"splitOpProfile": [profile]})
    await world.call("DELETE", world.registrations["ue"])
    edge = await world.add_node("edge")
    gone = {"availableNodes": ue}, {"splitOpProfile": [profile]}, {"availableNodes": edge}
    await _until_available(world, *gone)
    await world.made("/aimles-sonreg/v1/configurations", node(ue))
    await _until_available(world, *gone, {"splitOpProfile": [profile], "availableNodes": ue})


async def _until_available(world: SplitWorld, *infos: Json) -> None:
    def told() -> bool:
        world.clock.advance(0.02)
        return [body["availabilityInfo"] for body in world.val.bodies if "availabilityInfo" in body] == list(
            infos
        )

    await eventually(told)


async def test_a_discovered_pipeline_is_told_of(world: SplitWorld) -> None:
    """One that discovery has made counts as one that was created."""
    await world.add_node("ue")
    await world.subscribe()
    body = {"notifUri": world.val.url("/own"), "discFilters": {"stageInfo": [stage("http://any.example/")]}}
    _, answer, _ = await world.call("POST", DISCOVERY, body)
    [profile] = answer["splitOpProfiles"]
    await world.until_told(("CREATED", profile["splitOpPipelineId"], "READY"))


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"splitOpEventId": "SPLIT_OP_LATER"}, "/splitOpEventId"),
        ({"splitOpEventId": "SPLIT_OP_AVAILABILITY"}, "/discFilters"),
        (
            {"discFilters": {"stageInfo": [stage("http://a.example/")], "minNodes": "0"}},
            "/discFilters/minNodes",
        ),
        (
            {"discFilters": {"stageInfo": [stage("http://a.example/", numNodes="two")]}},
            "/discFilters/stageInfo/0/numNodes",
        ),
        ({"reportReq": {"immRep": True}}, "/reportReq"),
        ({"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 5}}, "/reportReq"),
        ({"expTime": to_wire(START - timedelta(hours=1))}, "/expTime"),
        ({"notifUri": "ftp://val.example/"}, "/notifUri"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(world: SplitWorld, wrong: Json, param: str) -> None:
    """When it is made and when it is changed."""
    right = {
        "splitOpPipelineId": "*",
        "splitOpEventId": "SPLIT_OP_PIPELINE_INFO",
        "notifUri": world.val.url("/"),
    }
    _, location = await world.made(EVENTS, right)
    for method, path in (("POST", EVENTS), ("PUT", location), ("PATCH", location)):
        status, problem, _ = await world.call(
            method, path, {**right, **wrong} if method != "PATCH" else wrong
        )
        assert (status, [one["param"] for one in problem["invalidParams"]]) == (400, [param])
    assert (await world.call("GET", location))[1] == right


async def test_advice_for_all_pipelines_is_not_offered(world: SplitWorld) -> None:
    """What was measured is of one pipeline; whoever wants advice beyond that is told that there is none: 501."""
    body = {
        "splitOpPipelineId": "*",
        "splitOpEventId": "SPLIT_OP_ASSISTANCE_INFO",
        "notifUri": world.val.url("/"),
    }
    assert (await world.call("POST", EVENTS, body))[0] == 501

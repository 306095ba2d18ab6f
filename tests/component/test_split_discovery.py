"""Split operation pipeline discovery at a whole server (TS 23.482 8.14.2.2)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml_repository.database import Database
from tests.support_split_pipelines import DISCOVERY, OTHER, VAL, Json, SplitWorld, split_world, stage

SOMEWHERE = "http://any.example/"


@pytest.fixture
async def world(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[SplitWorld]:
    """A model for everybody; no node is there yet."""
    async with split_world(mongo_url, database, tmp_path / "key.pem") as opened:
        await opened.store()
        yield opened


async def discover(world: SplitWorld, *stages: Json, caller: str = VAL, **filters: Any) -> tuple[int, Any]:
    """Status and body of a request for pipelines with these stages."""
    filters = {"stageInfo": list(stages or [stage(SOMEWHERE)]), **filters}
    body = {"notifUri": world.val.url("/own"), "discFilters": filters}
    status, answer, _ = await world.call("POST", DISCOVERY, body, caller)
    return status, answer


async def found(world: SplitWorld, *stages: Json, caller: str = VAL, **filters: Any) -> list[Json]:
    """The profiles."""
    status, answer = await discover(world, *stages, caller=caller, **filters)
    assert status == 200, answer
    return list(answer.get("splitOpProfiles", ()))


async def test_the_pipeline_that_there_is(world: SplitWorld) -> None:
    """It is found by the models of its stages, the number of its nodes and its usage, and no other is made."""
    ue, edge = await world.add_node("ue"), await world.add_node("edge")
    made, _ = await world.create(stage(ue, edge))
    for filters in ({}, {"minNodes": "2"}, {"usageInfo": {"inputFreq": 7}}):
        assert await found(world, **filters) == [made]
    assert await found(world, stage(SOMEWHERE, numNodes="2")) == [made]
    assert await discover(world) == (200, {"splitOpProfiles": [made], "discoveredNodes": sorted([ue, edge])})


async def test_one_is_made_where_there_is_none(world: SplitWorld) -> None:
    """Of registered nodes, as many as are wanted; it is the caller's own, and found from then on."""
    addresses = {await world.add_node(name) for name in ("ue", "edge", "cloud")}
    [made] = await found(world, minNodes="2")
    [only] = made["stageInfo"]
    order = [place["uri"] for place in only["nodeOrder"]]
    assert len(order) == 2
    assert set(order) < addresses
    assert (only["numNodes"], only["headEp"], only["tailEp"]) == ("2", {"uri": order[0]}, {"uri": order[-1]})
    assert await found(world, minNodes="2") == [made]
    for name in ("ue", "edge", "cloud"):
        if world.nodes[name].url(f"/{name}") in order:
            await world.until_node_told(name, "CREATED")
    location = f"/aimles-sopl/v1/request/{made['splitOpPipelineId']}"
    assert (await world.call("DELETE", location))[0] == 204


async def test_a_pipeline_that_does_not_fit(world: SplitWorld) -> None:
    """Too few nodes, too much use, other stages, a node that has gone: another is made."""
    ue, edge = await world.add_node("ue", "*"), await world.add_node("edge", "*")
    await world.store("second")
    made, _ = await world.create(stage(ue))
    [two] = await found(world, minNodes="2")
    assert two["splitOpPipelineId"] != made["splitOpPipelineId"]
    [stages] = await found(world, stage(SOMEWHERE), stage(SOMEWHERE, model="second", stage_id="2"))
    assert [one["mlModelId"] for one in stages["stageInfo"]] == ["model", "second"]
    assert len({place["uri"] for one in stages["stageInfo"] for place in one["nodeOrder"]}) == 2
    assert await found(world, stage(SOMEWHERE, numNodes="1")) == [made]
    await world.call("DELETE", world.registrations["ue"])
    [without] = await found(world)
    assert without["stageInfo"][0]["nodeOrder"] == [{"uri": edge}]


async def test_preferred_nodes_come_first(world: SplitWorld) -> None:
    """Of several that would do, those whose addresses the filter has."""
    addresses = [await world.add_node(name) for name in ("a", "b", "c")]
    for address in addresses:
        pipelines = await found(world, stage(address), minNodes="1")
        if pipelines[0]["stageInfo"][0]["nodeOrder"] != [{"uri": address}]:
            await world.create(stage(address))
        assert (await found(world, stage(address)))[0]["stageInfo"][0]["nodeOrder"] == [{"uri": address}]


async def test_nodes_where_no_pipeline_can_be_made(world: SplitWorld) -> None:
    """Too few of them, or a model that is not stored, or not for the caller: only the nodes are answered."""
    await world.store("private", storeDiscReqs={"duration": 3600})
    ue = await world.add_node("ue", "*")
    for options in (
        {"minNodes": "2"},
        {"stages": [stage(SOMEWHERE, numNodes="2")]},
        {"stages": [stage(SOMEWHERE, model="not-stored")]},
        {"stages": [stage(SOMEWHERE, model="private")], "caller": OTHER},
        {"stages": [stage(SOMEWHERE, numNodes="1")], "minNodes": "2"},
    ):
        stages = options.pop("stages", [])
        assert await discover(world, *stages, **options) == (200, {"discoveredNodes": [ue]})


async def test_nothing_at_all(world: SplitWorld) -> None:
    """Without a pipeline and without a node there is nothing to answer: 404."""
    await world.add_node("unable", model="other")
    status, problem = await discover(world)
    assert (status, problem["cause"]) == (404, "SPLIT_OP_PIPELINE_NOT_FOUND")


async def test_pipelines_of_others(world: SplitWorld) -> None:
    """Those for several clients are found by all who may have the models, without what is its owner's business."""
    ue = await world.add_node("ue")
    await world.create(stage(ue))
    target = {"fqdn": "val.example"}
    shared, location = await world.create(stage(ue), aimle={"multiClient": True}, notificationTarget=target)
    [seen] = await found(world, caller=OTHER)
    assert seen["splitOpPipelineId"] == shared["splitOpPipelineId"]
    assert shared["aimle"]["notificationTarget"] == target
    assert "notificationTarget" not in seen["aimle"]
    assert (await world.call("DELETE", location, caller=OTHER))[0] == 404


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many", "101", "\uff11"])
async def test_numbers_that_are_none(world: SplitWorld, number: str) -> None:
    """minNodes and numNodes are texts with a number in them; others are refused by name."""
    status, problem = await discover(world, stage(SOMEWHERE, numNodes=number), minNodes=number)
    assert (status, {one["param"] for one in problem["invalidParams"]}) == (
        400,
        {"/discFilters/minNodes", "/discFilters/stageInfo/0/numNodes"},
    )

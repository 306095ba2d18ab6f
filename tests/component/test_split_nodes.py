"""Split operation nodes at a whole server (TS 23.482 8.14.2.4)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ml_repository.database import Database
from ml_repository.split_nodes import SplitNodes
from tests.support_split_pipelines import NODES, OTHER, Json, SplitWorld, node, split_world, valid

ADDRESS = "http://127.0.0.1:9/node"


@pytest.fixture
async def world(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[SplitWorld]:
    """No node is there yet."""
    async with split_world(mongo_url, database, tmp_path / "key.pem") as opened:
        yield opened


async def models_at(database: Database, world: SplitWorld, address: str = ADDRESS) -> list[str]:
    """What the nodes run that count at an address now."""
    return sorted(one.model for one in await SplitNodes(database).at([address], world.clock.now()))


async def test_registering(world: SplitWorld) -> None:
    """What was registered is read at its Location, changed in part and as a whole, and gone once deleted."""
    whole = node(timeValidity=valid(0, 1), aimle={"splitNodeUri": ADDRESS})
    made, location = await world.made(NODES, whole)
    assert made == whole
    assert (await world.call("GET", location))[:2] == (200, whole)
    patch = {"timeValidity": None, "sonRegCapability": {"usageInfo": {"inputFreq": 5}}}
    status, problem, _ = await world.call("PATCH", location, patch)
    assert (status, problem["invalidParams"][0]["param"]) == (400, "/sonRegCapability/modelInfo")
    patch["sonRegCapability"] = node(model="other")["sonRegCapability"] | {"usageInfo": {"inputFreq": 5}}
    merged = {**whole, **patch}
    del merged["timeValidity"]
    assert (await world.call("PATCH", location, patch))[:2] == (200, merged)
    assert (await world.call("PUT", location, node()))[:2] == (200, node())
    assert (await world.call("GET", location))[1] == node()
    assert (await world.call("DELETE", location))[0] == 204
    for method, body in (("GET", None), ("PUT", node()), ("PATCH", patch), ("DELETE", None)):
        assert (await world.call(method, location, body))[0] == 404


async def test_others_do_not_see_a_registration(world: SplitWorld) -> None:
    """Somebody else's is as unknown as one that does not exist."""
    _, location = await world.made(NODES, node())
    for method, body in (("GET", None), ("PUT", node()), ("PATCH", {"timeValidity": None}), ("DELETE", None)):
        assert (await world.call(method, location, body, OTHER))[0] == 404
    assert (await world.call("GET", location))[0] == 200


async def test_an_address_is_its_owners(world: SplitWorld) -> None:
    """Nobody else registers it, whether anew or by a change, until its registration has ended."""
    _, location = await world.made(NODES, node(timeValidity=valid(0, 1)))
    _, elsewhere = await world.made(NODES, node("http://127.0.0.1:9/elsewhere"), OTHER)
    for method, path in (("POST", NODES), ("PUT", elsewhere)):
        status, problem, _ = await world.call(method, path, node(model="other"), OTHER)
        assert (status, problem["cause"]) == (403, "SPLIT_NODE_IN_USE")
    assert (await world.call("PUT", location, node(timeValidity=valid(0, 1))))[0] == 200
    world.clock.advance(3600)
    await world.made(NODES, node(model="other"), OTHER)


async def test_a_node_counts_from_its_start_to_its_end(world: SplitWorld, database: Database) -> None:
    """Its owner reads it before; it counts from its start on; at its end it is gone, though nobody cleaned up."""
    _, location = await world.made(NODES, node(timeValidity=valid(1, 2)))
    assert (await world.call("GET", location))[0] == 200
    assert await models_at(database, world) == []
    world.clock.advance(3600)
    assert await models_at(database, world) == ["model"]
    world.clock.advance(3600)
    assert await models_at(database, world) == []
    assert (await world.call("GET", location))[0] == 404


async def test_a_node_that_registers_again(world: SplitWorld, database: Database) -> None:
    """One that starts anew replaces itself; for another model it is registered beside."""
    _, before = await world.made(NODES, node(timeValidity=valid(0, 1)))
    _, beside = await world.made(NODES, node(model="other"))
    _, again = await world.made(NODES, node())
    assert [(await world.call("GET", uri))[0] for uri in (before, beside, again)] == [404, 200, 200]
    assert await models_at(database, world) == ["model", "other"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"timeValidity": valid(-2, -1)}, "/timeValidity/stopTime"),
        ({"timeValidity": valid(2, 1)}, "/timeValidity/stopTime"),
        ({"nodeInfo": {"uri": "ftp://node.example/"}}, "/nodeInfo/uri"),
        ({"nodeInfo": {"port": 1}}, "/nodeInfo/uri"),
        ({"aimle": {"splitNodeUri": "http://169.254.0.1/"}}, "/aimle/splitNodeUri"),
        ({"aimle": {"splitNodeUri": f"{ADDRESS}-of-another"}}, "/aimle/splitNodeUri"),
        (node(model="") | {"nodeInfo": {"ipv4Addr": "192.0.2.1"}}, "/sonRegCapability/modelInfo/modelId"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(world: SplitWorld, change: Json, param: str) -> None:
    """Whichever way it comes, and nothing is changed."""
    _, location = await world.made(NODES, node())
    for method, path in (("POST", NODES), ("PUT", location)):
        status, problem, _ = await world.call(method, path, node() | change)
        assert status == 400
        assert param in {one["param"] for one in problem["invalidParams"]}
    assert (await world.call("GET", location))[1] == node()


async def test_cleaning_up_leaves_the_living(world: SplitWorld, database: Database) -> None:
    """What has expired is removed, and nothing else."""
    await world.made(NODES, node(timeValidity=valid(0, 1)))
    await world.made(NODES, node(model="other"))
    world.clock.advance(3600)
    assert await SplitNodes(database).remove_expired(world.clock.now()) == 1
    assert await models_at(database, world) == ["other"]

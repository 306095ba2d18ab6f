"""Which nodes run a pipeline: those that are registered, in the order that was asked for; and whence inputs come."""

import asyncio

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.http import ClientCredentials
from aimle_client.split.emulation import Emulation
from aimle_client.split.node import ProcessingNode
from aimle_client.val import ValServer
from aimle_server.pipelines import driver
from ml_repository.database import Database
from ml_repository.oauth_clients import OAuthClients
from tests.support import eventually
from tests.support_split_pipelines import NODES as CONFIGURATIONS
from tests.support_split_pipelines import PIPELINES
from tests.support_split_world import Json, World, answers

pytestmark = pytest.mark.split


def parts(profile: Json) -> list[str]:
    """Who runs the parts, in their order."""
    return [part["node"] for part in profile["aimle"]["execution"]["parts"]]


async def test_a_fixed_order(world: World) -> None:
    """All nodes run, in the order in which they are named; only the cuts are chosen."""
    for names in (["ue", "cloud"], ["cloud", "ue", "edge"]):
        profile, _ = await world.create(*names, inOrder=True)
        assert parts(profile) == [world.nodes[name].uri for name in names]
        assert profile["aimle"]["execution"]["inOrder"] is True
        await answers(profile)


async def test_what_parts_give(world: World) -> None:
    """Each part says which tensors it gives: the last one the results, the others what crosses the cut."""
    profile, _ = await world.create("ue", "edge", inOrder=True, mostCuts=1)
    first, last = (part["gives"] for part in profile["aimle"]["execution"]["parts"])
    assert last == ["scores"]
    assert first != last


async def test_inputs_from_another_node(world: World) -> None:
    """The node where inputs come from need not run a part; what is measured is measured there."""
    origin = world.nodes["ue"].uri
    profile, _ = await world.create("edge", origin=origin)
    assert parts(profile) == [world.nodes["edge"].uri]
    assert profile["aimle"]["execution"]["origin"] == origin
    assert profile["aimle"]["execution"]["latency"] > 0
    await answers(profile)


async def test_a_node_that_is_withdrawn(world: World) -> None:
    """A node that is deregistered runs no part any more, although it still could; registered again it does."""
    silent = ProcessingNode(world.server.url, credentials=world.server.credentials["edge"])
    node = await world.stack.enter_async_context(silent)
    registration = {
        "nodeInfo": {"uri": node.uri},
        "sonRegCapability": {
            "modelInfo": {"modelId": "net", "modelVersion": "1", "suppOperation": ["INFERENCE"]}
        },
        "aimle": {"splitNodeUri": node.uri},
    }
    status, _, location = await world.call("POST", CONFIGURATIONS, registration, "edge")
    assert status == 201
    world.nodes["silent"] = node
    profile, _ = await world.create("silent")
    assert parts(profile) == [node.uri]
    assert len(await stages_at(world, node)) == 1

    assert (await world.call("DELETE", location, caller="edge"))[0] == 204
    await eventually(lambda: world.told() and world.told()[-1]["aimle"]["state"] == "DEGRADED", timeout=30)
    assert await stages_at(world, node) == []
    assert world.told()[-1]["aimle"]["missing"] == [node.uri]
    assert world.told()[-1]["aimle"]["reason"] == "its nodes cannot run it now"

    assert (await world.call("POST", CONFIGURATIONS, registration, "edge"))[0] == 201
    await eventually(lambda: world.told()[-1]["aimle"]["state"] == "READY", timeout=30)
    assert parts(world.told()[-1]) == [node.uri]
    assert "reason" not in world.told()[-1]["aimle"]
    await answers(world.told()[-1])


async def stages_at(world: World, node: ProcessingNode) -> list[Json]:
    """What the node runs for the server."""
    token = world.issuer.issue("aimle-server", ["aimle-split-node"])[0]
    async with world.http.get(
        f"{node.uri}/aimle-split-node/v1/stages", headers={"Authorization": f"Bearer {token}"}
    ) as answer:
        assert answer.status == 200
        return (await answer.json())["stages"]


async def test_a_pipeline_that_takes_long_to_begin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request does not wait for ever: it is answered before the pipeline runs, and told when it does."""
    monkeypatch.setattr(driver, "START_SECONDS", 0.0)
    credentials = world.server.credentials["val-1"]
    async with (
        asyncio.timeout(30),
        ValServer(world.server.url, credentials, listen=("127.0.0.1", 0)) as val,
    ):
        pipeline = await val.create_pipeline("net", [world.nodes["edge"].uri])
        assert pipeline.profile["aimle"]["state"] == "DEGRADED"
        await pipeline.until_ready()
    assert parts(pipeline.profile) == [world.nodes["edge"].uri]
    await answers(pipeline.profile)


async def test_a_node_that_may_not_fetch_its_part(world: World, database: Database) -> None:
    """Others run it, also slower ones; where there are none, the refusal says which node it was, and why."""
    secret = await OAuthClients(database).add("poor", ["aimles-sonreg"])
    url, known = world.server.url, world.server.credentials
    for name, options in (
        ("poor", {"credentials": ClientCredentials("poor", secret)}),
        ("slow", {"credentials": known["edge"], "emulation": Emulation(30.0)}),
    ):
        node = ProcessingNode(url, models=["net"], **options)
        world.nodes[name] = await world.stack.enter_async_context(node)
    status, problem, _ = await world.call("POST", PIPELINES, world.request("poor"))
    assert status == 409
    assert f"{world.nodes['poor'].uri} does not take its part" in problem["detail"]
    assert "is not given: 403" in problem["detail"]
    profile, _ = await world.create("slow", "poor")
    assert parts(profile) == [world.nodes["slow"].uri]
    await answers(profile)

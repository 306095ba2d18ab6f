"""Pipelines that a whole server runs: asked for by the standard's API, run by nodes that registered themselves."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.errors import NotFound
from aimle_client.val import ValServer
from tests.support import Listener, eventually
from tests.support_onnx import inputs, residual, run
from tests.support_split_pipelines import DISCOVERY, EVENTS, PIPELINES, node, stage
from tests.support_split_world import NODES, Json, World, answers

pytestmark = pytest.mark.split


async def test_a_pipeline_that_runs(world: World) -> None:
    """Head and tail of the answer are those of the running parts, whose outputs are the whole model's."""
    profile, _ = await world.create(*NODES)
    assert profile["aimle"]["state"] == "READY"
    execution = profile["aimle"]["execution"]
    assert execution["objective"] == "LATENCY"
    assert {part["node"] for part in execution["parts"]} <= {world.nodes[name].uri for name in NODES}
    assert execution["latency"] > 0
    error = execution["predictedLatency"] / execution["latency"] - 1
    assert execution["latencyError"] == pytest.approx(error)
    assert profile["headEp"] == profile["stageInfo"][0]["headEp"]
    await answers(profile)


async def test_parts_are_models(world: World) -> None:
    """Each has the whole model as its base, may be had by the pipeline's nodes only, and goes with the pipeline."""
    profile, location = await world.create(*NODES)
    parts = [part["mlModelId"] for part in profile["aimle"]["execution"]["parts"]]
    assert await world.models() == sorted(["net", *parts])
    for caller, status in (("val-1", 200), ("edge", 200), ("val-2", 404)):
        for part in parts:
            assert (await world.call("HEAD", f"/aimle-artifacts/v1/models/{part}", caller=caller))[
                0
            ] == status
    assert (await world.call("DELETE", location))[0] == 204
    assert await world.models() == ["net"]


async def test_a_deleted_pipeline_takes_nothing(world: World) -> None:
    """Its stages are gone from the nodes: inputs for it are refused."""
    profile, location = await world.create("edge")
    async with world.http.get(profile["headEp"]["uri"]) as answer:
        assert answer.status != 404, "what is no WebSocket is refused for another reason"
    assert (await world.call("DELETE", location))[0] == 204
    async with world.http.get(profile["headEp"]["uri"]) as answer:
        assert answer.status == 404


async def test_another_pipeline_in_its_place(world: World) -> None:
    """After a PUT other nodes run it; the requestor is told of the new head and tail."""
    profile, location = await world.create("ue", "edge")
    body = world.request("cloud", objective="THROUGHPUT")
    status, answer, _ = await world.call("PUT", location, body)
    assert status == 200
    changed = answer["splitOpProfile"]
    assert [part["node"] for part in changed["aimle"]["execution"]["parts"]] == [world.nodes["cloud"].uri]
    assert changed["aimle"]["execution"]["objective"] == "THROUGHPUT"
    assert changed["headEp"] != profile["headEp"]
    await answers(changed)
    parts = [part["mlModelId"] for part in changed["aimle"]["execution"]["parts"]]
    assert await world.models() == sorted(["net", *parts]), "those from before are gone"
    await eventually(lambda: changed["headEp"] in [told["headEp"] for told in world.told()])


async def test_a_node_that_dies(world: World) -> None:
    """The pipeline is planned anew without it; its requestor is told where head and tail are now."""
    profile, _ = await world.create(*NODES)
    used = profile["aimle"]["execution"]["parts"][0]["node"]
    dying = next(one for one in world.nodes.values() if one.uri == used)
    await dying.__aexit__(None, None, None)
    await eventually(lambda: any(told["headEp"] != profile["headEp"] for told in world.told()), timeout=30)
    moved = next(told for told in world.told() if told["headEp"] != profile["headEp"])
    assert used not in [part["node"] for part in moved["aimle"]["execution"]["parts"]]
    await answers(moved)


async def test_discovery_makes_one_that_runs(world: World) -> None:
    """Where none exists, one is made of the nodes that there are, and it runs."""
    anywhere = stage("http://any.example/", model="net")
    filters = {"notifUri": world.val.url("/own"), "discFilters": {"stageInfo": [anywhere], "minNodes": "2"}}
    status, answer, _ = await world.call("POST", DISCOVERY, filters)
    assert status == 200
    [profile] = answer["splitOpProfiles"]
    assert len(profile["stageInfo"][0]["nodeOrder"]) == 2
    await answers(profile)
    assert (await world.call("POST", DISCOVERY, filters))[1]["splitOpProfiles"] == [profile]


async def test_subscribers_are_told_when_it_runs(world: World) -> None:
    """Somebody who may know of it hears of the pipeline with its head and tail."""
    body = {
        "splitOpPipelineId": "*",
        "splitOpEventId": "SPLIT_OP_PIPELINE_INFO",
        "notifUri": world.val.url("/all"),
    }
    assert (await world.call("POST", EVENTS, body, "edge"))[0] == 201
    profile, _ = await world.create("edge")
    await eventually(lambda: profile["headEp"] in [told["headEp"] for told in world.told("/all")])


async def test_advice_is_what_was_measured(world: World) -> None:
    """Who subscribed to assistance for a pipeline is told what it achieves, now and after it was changed."""
    profile, location = await world.create("edge")
    body = {
        "splitOpPipelineId": profile["splitOpPipelineId"],
        "splitOpEventId": "SPLIT_OP_ASSISTANCE_INFO",
        "notifUri": world.val.url("/advice"),
    }
    assert (await world.call("POST", EVENTS, body))[0] == 201
    await eventually(lambda: _advice(world) == [_achieved(profile)])
    _, answer, _ = await world.call("PUT", location, world.request("cloud"))
    await eventually(lambda: _advice(world) == [_achieved(profile), _achieved(answer["splitOpProfile"])])


def _achieved(profile: Json) -> Json:
    measured = profile["aimle"]["execution"]
    return {name: measured[name] for name in ("latency", "throughput")}


def _advice(world: World) -> list[Json]:
    bodies = [one.body for one in world.val.received if one.path == "/advice"]
    return [json.loads(body["assistanceInfo"]["achievableQoS"]) for body in bodies]


async def test_what_this_server_does_not_run(world: World) -> None:
    """Nodes of others run their parts themselves; an objective cannot be had from them, nor an origin elsewhere."""
    plain = await world.stack.enter_async_context(Listener())
    status, answer, _ = await world.call(
        "POST", "/aimles-sonreg/v1/configurations", node(plain.url("/node"), "net")
    )
    assert status == 201, answer
    body = world.request("edge")
    body["splitOpRequirements"]["stageInfo"] = [
        stage(plain.url("/node"), world.nodes["edge"].uri, model="net")
    ]
    status, answer, _ = await world.call("POST", PIPELINES, body)
    assert status == 201
    assert "execution" not in answer["splitOpProfile"]["aimle"]
    await eventually(lambda: plain.bodies)
    body["splitOpRequirements"]["aimle"] = {"objective": "LATENCY"}
    assert (await world.call("POST", PIPELINES, body))[0] == 400
    elsewhere = world.request("edge", origin="http://elsewhere.example/")
    status, problem, _ = await world.call("POST", PIPELINES, elsewhere)
    assert (status, problem["invalidParams"][0]["param"]) == (400, "/splitOpRequirements/aimle/origin")


async def test_a_val_server_uses_a_pipeline(world: World) -> None:
    """What it sends through a pipeline has its results in order, although a node of it dies meanwhile."""
    frames = [inputs(residual(), seed=number) for number in range(200)]
    uris = [world.nodes[name].uri for name in NODES]
    credentials = world.server.credentials["val-1"]
    async with ValServer(world.server.url, credentials, listen=("127.0.0.1", 0)) as val:
        pipeline = await val.create_pipeline("net", uris, objective="THROUGHPUT")
        used = pipeline.profile["aimle"]["execution"]["parts"][0]["node"]
        dying = next(one for one in world.nodes.values() if one.uri == used)
        found = []
        async with asyncio.timeout(60), pipeline.open() as stream:
            async for result in stream.map(frames):
                found.append(result)
                if len(found) == 20:
                    await dying.__aexit__(None, None, None)
        assert used not in [part["node"] for part in pipeline.profile["aimle"]["execution"]["parts"]]
        await pipeline.delete()
    assert len(found) == len(frames)
    for frame, result in zip(frames, found, strict=True):
        np.testing.assert_allclose(result["scores"], run(residual(), frame)["scores"], rtol=0, atol=1e-5)


async def test_a_val_server_finds_a_pipeline(world: World) -> None:
    """One is made of the nodes that there are, and found again; where there are too few, it is told so."""
    credentials = world.server.credentials["val-1"]
    async with ValServer(world.server.url, credentials, listen=("127.0.0.1", 0)) as val:
        pipeline = await val.find_pipeline("net", min_nodes=3)
        assert (await val.find_pipeline("net", min_nodes=3)).id == pipeline.id
        frame = inputs(residual())
        async with asyncio.timeout(20), pipeline.open() as stream:
            assert (await stream.infer(frame)).keys() == run(residual(), frame).keys()
        with pytest.raises(NotFound):
            await val.find_pipeline("net", min_nodes=4)
    async with ValServer(world.server.url, credentials) as deaf:
        with pytest.raises(RuntimeError, match="listen"):
            await deaf.find_pipeline("net")

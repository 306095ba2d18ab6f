"""Pipelines of several stages that a whole server runs: each has a model of its own, and nodes of its own."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.split.emulation import Emulation
from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.val import ValServer
from tests.support import eventually
from tests.support_onnx import inputs, model, residual, run, weights
from tests.support_split_pipelines import DISCOVERY, PATCH, PIPELINES, node, stage
from tests.support_split_pipelines import NODES as CONFIGURATIONS
from tests.support_split_world import Json, World

pytestmark = pytest.mark.split


def judge() -> bytes:
    """[N, 10] -> [N, 3]: takes what `residual` gives, whose names it has too."""
    return model(
        """judge (float[samples,10] image) => (float[samples,3] odds) {
            stem = MatMul(image, w1)
            start = Relu(stem)
            out = MatMul(start, w2)
            odds = Softmax(out)
        }""",
        weights(w1=(10, 20), w2=(20, 3)),
    )


def square() -> bytes:
    """[N, 5] -> [N, 5]: takes what it gives."""
    return model(
        """square (float[N,5] x) => (float[N,5] y) {
            a = MatMul(x, w)
            y = Tanh(a)
        }""",
        weights(w=(5, 5)),
    )


MODELS = {"net": residual, "judge": judge, "square": square}


@pytest.fixture
async def site(world: World, tmp_path: Path) -> World:
    """`net` runs on ue and edge, `judge` on cloud and edge-2, either of them on `both`."""
    credentials = world.server.credentials
    async with ValServer(world.server.url, credentials["val-1"]) as val:
        for name in ("judge", "square"):
            path = tmp_path / f"{name}.onnx"
            await asyncio.to_thread(path.write_bytes, MODELS[name]())
            await val.store_model(name, services=["any"], info={"interopInfo": "ONNX"})
            await val.upload_model(name, path)
    for name, owner, models in (
        ("edge-2", "edge", ["judge"]),
        ("cloud-2", "cloud", ["judge", "square"]),
        ("both", "edge", ["net", "judge", "square"]),
    ):
        node = ProcessingNode(world.server.url, models=models, credentials=credentials[owner])
        world.nodes[name] = await world.stack.enter_async_context(node)
    return world


def request(world: World, *stages: tuple[str, list[str]], **extension: Json) -> Json:
    """A SplitOpPipelineCreateReq; a stage is a model and its nodes."""
    body = world.request("ue", **extension)
    body["splitOpRequirements"]["stageInfo"] = infos(world, *stages)
    return body


def infos(world: World, *stages: tuple[str, list[str]]) -> list[Json]:
    """The StageInfo of each stage, called a, b, c."""
    return [
        stage(*(world.nodes[name].uri for name in names), model=model_id, stage_id=stage_id)
        for stage_id, (model_id, names) in zip("abc", stages, strict=False)
    ]


async def create(world: World, *stages: tuple[str, list[str]], **extension: Json) -> tuple[Json, str]:
    """A pipeline's profile and Location."""
    status, answer, location = await world.call("POST", PIPELINES, request(world, *stages, **extension))
    assert status == 201, answer
    return answer["splitOpProfile"], location


def parts(world: World, profile: Json) -> list[str]:
    """The names of the nodes that run the parts, in their order."""
    names = {node.uri: name for name, node in world.nodes.items()}
    return [names[part["node"]] for part in profile["aimle"]["execution"]["parts"]]


async def bases(world: World, profile: Json) -> list[str]:
    """The baseModelId of each part."""
    found = []
    for part in profile["aimle"]["execution"]["parts"]:
        criteria = f'{{"mlModelId": "{part["mlModelId"]}", "storeDiscReqs": {{"duration": 0}}}}'
        status, answer, _ = await world.call("GET", f"/mlr-mid/v1/models?filt-criteria={criteria}")
        assert status == 200
        found.append(answer["profiles"][0]["mlModelInfo"]["phaseInfo"]["trainingInfo"]["baseModelId"])
    return found


async def assert_gives(profile: Json, *names: str) -> None:
    """Frames that are sent through come back as what the models give, run one after another."""
    frames = [inputs(MODELS[names[0]](), seed=number) for number in range(5)]
    head, tail = profile["headEp"]["uri"], profile["tailEp"]["uri"]
    async with asyncio.timeout(20), SplitPipeline(head, tail) as pipeline:
        results = [result async for result in pipeline.map(frames)]
    for frame, result in zip(frames, results, strict=True):
        expected = frame
        for name in names:
            content = MODELS[name]()
            expected = run(content, dict(zip(inputs(content), expected.values(), strict=True)))
        assert result.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(result[name], values, rtol=0, atol=1e-5)


async def test_two_models_on_three_nodes(site: World) -> None:
    """Results are those of the two models one after another; stages begin and end at the nodes that run them."""
    profile, _ = await create(site, ("net", ["ue", "edge"]), ("judge", ["cloud-2"]), inOrder=True)
    assert parts(site, profile) == ["ue", "edge", "cloud-2"]
    assert await bases(site, profile) == ["net", "net", "judge"]
    first, second = profile["stageInfo"]
    assert (first["headEp"], second["tailEp"]) == (profile["headEp"], profile["tailEp"])
    for end, name in (
        (first["headEp"], "ue"),
        (first["tailEp"], "edge"),
        (second["headEp"], "cloud-2"),
        (second["tailEp"], "cloud-2"),
    ):
        assert end["uri"].startswith(site.nodes[name].uri)
    await assert_gives(profile, "net", "judge")


async def test_a_node_runs_only_what_its_stage_has(site: World) -> None:
    """However much faster it is: a node of the second stage gets nothing of the first, nor can its owner have it."""
    slow = ProcessingNode(
        site.server.url,
        models=["net"],
        credentials=site.server.credentials["ue"],
        emulation=Emulation(slowdown=50.0),
    )
    site.nodes["slow"] = await site.stack.enter_async_context(slow)
    profile, _ = await create(site, ("net", ["slow"]), ("judge", ["cloud-2"]))
    assert parts(site, profile) == ["slow", "cloud-2"]
    assert await bases(site, profile) == ["net", "judge"]
    first, second = (part["mlModelId"] for part in profile["aimle"]["execution"]["parts"])
    for part, caller, status in (
        (first, "ue", 200),
        (first, "cloud", 404),
        (second, "ue", 404),
        (second, "cloud", 200),
    ):
        path = f"/aimle-artifacts/v1/models/{part}"
        assert (await site.call("HEAD", path, caller=caller))[0] == status
    await assert_gives(profile, "net", "judge")


async def test_a_node_of_both_stages(site: World) -> None:
    """It can run both in one part, whose base is the first model; both stages begin and end there."""
    profile, location = await create(site, ("net", ["both"]), ("judge", ["both"]))
    assert parts(site, profile) == ["both"]
    assert await bases(site, profile) == ["net"]
    first, second = profile["stageInfo"]
    assert first["headEp"] == first["tailEp"] == second["headEp"] == profile["headEp"]
    assert second["tailEp"] == profile["tailEp"]
    await assert_gives(profile, "net", "judge")
    assert (await site.call("DELETE", location))[0] == 204
    assert await site.models() == ["judge", "net", "square"]


async def test_a_part_of_both_stages(site: World) -> None:
    """Between nodes of one stage each, a node of both may have the end of one model and the beginning of the other."""
    stages = ("net", ["ue", "both"]), ("judge", ["both", "cloud-2"])
    profile, _ = await create(site, *stages, inOrder=True)
    assert parts(site, profile) == ["ue", "both", "cloud-2"]
    await assert_gives(profile, "net", "judge")


async def test_one_model_in_two_stages(site: World) -> None:
    """It is run twice."""
    profile, _ = await create(site, ("square", ["both"]), ("square", ["cloud-2"]))
    assert parts(site, profile) == ["both", "cloud-2"]
    assert await bases(site, profile) == ["square", "square"]
    await assert_gives(profile, "square", "square")


async def test_another_node_of_the_stage_takes_over(site: World) -> None:
    """When a node dies another one of its stage has its parts, and who is of the other stage keeps to that."""
    profile, _ = await create(site, ("net", ["ue", "edge"]), ("judge", ["cloud-2", "edge-2"]))
    for names in (["ue", "edge"], ["cloud-2", "edge-2"]):
        dying = next(name for name in parts(site, profile) if name in names)
        [other] = {*names} - {dying}
        await site.nodes[dying].__aexit__(None, None, None)
        await eventually(
            lambda gone=dying, was=profile: gone not in parts(site, latest(site, was)), timeout=30
        )
        profile = latest(site, profile)
        assert other in parts(site, profile)
        await assert_gives(profile, "net", "judge")
    await site.nodes[other].__aexit__(None, None, None)
    await eventually(lambda: site.told()[-1]["aimle"]["state"] == "DEGRADED", timeout=30)


async def test_a_node_that_one_of_its_stages_loses(site: World) -> None:
    """A node that is no longer registered for the model of one of its stages is used for none of them."""
    credentials = site.server.credentials["edge"]
    silent = await site.stack.enter_async_context(ProcessingNode(site.server.url, credentials=credentials))
    site.nodes["silent"], locations = silent, []
    for model_id in ("net", "judge"):
        body = node(silent.uri, model_id, aimle={"splitNodeUri": silent.uri})
        status, _, location = await site.call("POST", CONFIGURATIONS, body, "edge")
        assert status == 201
        locations.append(location)
    profile, _ = await create(site, ("net", ["silent"]), ("judge", ["silent", "cloud-2"]))
    assert profile["aimle"]["state"] == "READY"
    assert (await site.call("DELETE", locations[1], caller="edge"))[0] == 204
    await eventually(lambda: site.told() and "reason" in site.told()[-1]["aimle"], timeout=30)
    assert site.told()[-1]["aimle"]["missing"] == [silent.uri]
    status, _, _ = await site.call("POST", CONFIGURATIONS, body, "edge")
    assert status == 201
    await eventually(lambda: site.told()[-1]["aimle"]["state"] == "READY", timeout=30)
    await assert_gives(site.told()[-1], "net", "judge")


def latest(world: World, before: Json) -> Json:
    """The profile of what works, as it was told last, or as it was before anything was told."""
    return next((told for told in reversed(world.told()) if "parts" in told["aimle"]["execution"]), before)


async def test_misfits(site: World) -> None:
    """Models that do not fit are refused; the answer says which stage it is and why, and nothing is left of it."""
    for stages, reason in (
        ([("judge", ["both"]), ("net", ["both"])], "stage b: its input image is float"),
        ([("net", ["ue"]), ("judge", ["both"]), ("square", ["cloud-2"])], "stage c: its input x is float"),
    ):
        status, problem, _ = await site.call("POST", PIPELINES, request(site, *stages))
        assert (status, problem["cause"]) == (409, "SPLIT_OP_NOT_POSSIBLE")
        assert reason in problem["detail"]
    assert await site.models() == ["judge", "net", "square"]


async def test_a_node_that_would_be_needed_twice(site: World) -> None:
    """A node has one part: where another node is between its stages, there is no such pipeline."""
    stages = ("square", ["both"]), ("square", ["cloud-2"]), ("square", ["both"])
    status, problem, _ = await site.call("POST", PIPELINES, request(site, *stages))
    assert (status, problem["cause"]) == (409, "SPLIT_OP_NOT_POSSIBLE")


async def test_licences_that_exclude_each_other(site: World, tmp_path: Path) -> None:
    """A part of two models is for vendors that may have both; where there is none, there is no such part."""
    path, credentials = tmp_path / "licensed.onnx", site.server.credentials
    await asyncio.to_thread(path.write_bytes, square())
    async with ValServer(site.server.url, credentials["val-1"]) as val:
        for name in ("of-one", "of-two"):
            await val.store_model(name, services=["any"], info={"interopInfo": "ONNX", "vendors": [name]})
            await val.upload_model(name, path)
    node = ProcessingNode(site.server.url, models=["of-one", "of-two"], credentials=credentials["edge"])
    site.nodes["licensed"] = await site.stack.enter_async_context(node)
    stages = ("of-one", ["licensed"]), ("of-two", ["licensed"])
    status, problem, _ = await site.call("POST", PIPELINES, request(site, *stages))
    assert (status, problem["cause"]) == (409, "SPLIT_OP_NOT_POSSIBLE")
    assert "no vendor may have all of these models: of-one, of-two" in problem["detail"]


async def test_from_one_stage_to_two_and_back(site: World) -> None:
    """A merge patch and a PUT make other stages of it; parts of what it was are gone, whatever model they were of."""
    profile, location = await create(site, ("square", ["both"]))
    stages = infos(site, ("net", ["ue"]), ("judge", ["cloud-2"]))
    ends = {"headEp": stages[0]["headEp"], "tailEp": stages[-1]["tailEp"]}
    patch = {
        "notifUri": site.val.url("/own"),
        "splitOpPipelineId": profile["splitOpPipelineId"],
        "splitOpPipelineInfo": {"splitOpProfile": {**profile, "stageInfo": stages, **ends}},
    }
    headers = PATCH | {"Authorization": f"Bearer {site.issuer.issue('val-1', ['aimles-sopl'])[0]}"}
    async with site.http.patch(location, json=patch, headers=headers) as answer:
        assert answer.status == 200
        profile = (await answer.json())["splitOpProfile"]
    assert parts(site, profile) == ["ue", "cloud-2"]
    await assert_gives(profile, "net", "judge")
    assert await site.models() == sorted(["judge", "net", "square", *part_ids(profile)])
    status, body, _ = await site.call("PUT", location, request(site, ("square", ["cloud-2"])))
    assert status == 200
    await assert_gives(body["splitOpProfile"], "square")
    assert await site.models() == sorted(["judge", "net", "square", *part_ids(body["splitOpProfile"])])


def part_ids(profile: Json) -> list[str]:
    """The mlModelIds of the parts."""
    return [part["mlModelId"] for part in profile["aimle"]["execution"]["parts"]]


async def test_discovery_of_several_stages(site: World) -> None:
    """Where there is none, one is made of nodes for each of the models, and runs."""
    anywhere = [
        stage("http://any.example/", model=name, stage_id=name, numNodes="1") for name in ("net", "judge")
    ]
    filters = {"notifUri": site.val.url("/own"), "discFilters": {"stageInfo": anywhere}}
    status, answer, _ = await site.call("POST", DISCOVERY, filters)
    assert status == 200
    [profile] = answer["splitOpProfiles"]
    assert await bases(site, profile) == ["net", "judge"]
    await assert_gives(profile, "net", "judge")


async def test_inputs_from_a_node_of_no_stage(site: World) -> None:
    """They may come from anywhere, as for one stage."""
    origin = site.nodes["edge"].uri
    profile, _ = await create(site, ("net", ["ue"]), ("judge", ["cloud-2"]), origin=origin)
    assert parts(site, profile) == ["ue", "cloud-2"]
    assert profile["aimle"]["execution"]["origin"] == origin
    assert profile["aimle"]["execution"]["latency"] > 0


async def test_a_val_server_has_several_stages(site: World) -> None:
    """With the SDK: a model, its nodes, and what comes then."""
    credentials = site.server.credentials["val-1"]
    async with ValServer(site.server.url, credentials, listen=("127.0.0.1", 0)) as val:
        nodes = [site.nodes[name].uri for name in ("ue", "cloud-2")]
        pipeline = await val.create_pipeline("net", nodes[:1], then=[("judge", nodes[1:])])
        assert [part["node"] for part in pipeline.profile["aimle"]["execution"]["parts"]] == nodes
        frame = inputs(residual())
        async with asyncio.timeout(20), pipeline.open() as stream:
            found = await stream.infer(frame)
        await pipeline.delete()
    expected = run(judge(), {"image": run(residual(), frame)["scores"]})["odds"]
    np.testing.assert_allclose(found["odds"], expected, rtol=0, atol=1e-5)

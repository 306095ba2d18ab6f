"""A node of pipelines over HTTP: parts come, run and go; inputs go in at the head, results come out at the tail."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.errors import InferenceFailed
from aimle_client.split.emulation import Emulation, LinkShape
from aimle_client.split.frames import pack_tensors, unpack_tensors
from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_server.split.cutting import cut, cut_points
from tests.support_onnx import MODELS, chain, inputs, residual, run
from tests.support_split import Server, a_node, all_of, nodes, server

pytestmark = pytest.mark.split

STREAM = "00112233445566778899aabbccddeeff"


@pytest.fixture
async def aimle() -> AsyncIterator[Server]:
    """The AIMLE server's side."""
    async with server() as running:
        yield running


@pytest.fixture
async def node() -> AsyncIterator[ProcessingNode]:
    """One node."""
    async with a_node() as running:
        yield running


def parts(whole: bytes, count: int) -> list[bytes]:
    """A model in so many parts, cut at its first cuts."""
    return cut(whole, cut_points(whole)[: count - 1])


def assert_same(found: dict, expected: dict) -> None:
    """The same tensors, to 1e-5."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_pipeline_is_the_model(aimle: Server, name: str, count: int) -> None:
    """However many nodes a model runs on, each frame's results are those of the whole model, in order."""
    whole = MODELS[name]()
    frames = [inputs(whole, samples=1 + number % 4, seed=number) for number in range(40)]
    async with nodes(count) as at:
        stages = await aimle.pipeline(at, parts(whole, count))
        async with SplitPipeline(stages[0]["inputUri"], stages[-1]["resultsUri"]) as pipeline:
            results = await all_of(pipeline, frames)
    assert len(results) == len(frames)
    for frame, result in zip(frames, results, strict=True):
        assert_same(result, run(whole, frame))


async def test_frames_share_one_connection(aimle: Server) -> None:
    """Between two nodes one connection stays open: each frame is a message on it, not a request."""
    async with nodes(2) as at:
        stages = await aimle.pipeline(at, parts(chain(), 2))
        async with SplitPipeline(stages[0]["inputUri"], stages[-1]["resultsUri"]) as pipeline:
            await all_of(pipeline, [inputs(chain())] * 30)
        _, status, _ = await aimle.call(at[1], "GET", "/stages")
    assert [stage["frames"] for stage in status["stages"]] == [30]


async def test_results_can_be_requested(aimle: Server, node: ProcessingNode) -> None:
    """Without a WebSocket: one request puts a frame, another gets its result, once."""
    stage = await aimle.load(node, chain())
    frame = inputs(chain())
    path = f"/stages/{stage['stageId']}"
    put = await aimle.call(node, "PUT", f"{path}/inputs/{STREAM}/7", data=pack_tensors(frame))
    assert put[0] == 204
    status, payload, headers = await aimle.call(node, "GET", f"{path}/results/{STREAM}/7")
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    assert_same(unpack_tensors(payload), run(chain(), frame))


async def test_streams_do_not_mix(aimle: Server, node: ProcessingNode) -> None:
    """Several who use one pipeline get each their own results."""
    stage = await aimle.load(node, chain())
    ends = stage["inputUri"], stage["resultsUri"]
    one = [inputs(chain(), seed=number) for number in range(20)]
    two = [inputs(chain(), seed=100 + number) for number in range(20)]
    async with SplitPipeline(*ends) as first, SplitPipeline(*ends) as second:
        found = await asyncio.gather(all_of(first, one), all_of(second, two))
    for frames, results in zip((one, two), found, strict=True):
        for frame, result in zip(frames, results, strict=True):
            assert_same(result, run(chain(), frame))


async def test_wrong_inputs_fail_alone(aimle: Server) -> None:
    """A frame that the part can make nothing of is answered with the reason; those around it have their results."""
    async with nodes(2) as at:
        stages = await aimle.pipeline(at, parts(chain(), 2))
        async with SplitPipeline(stages[0]["inputUri"], stages[-1]["resultsUri"]) as pipeline:
            good = await pipeline.submit(inputs(chain()))
            bad = await pipeline.submit({"x": np.zeros((1, 5), np.float32)})
            unknown = await pipeline.submit({"other": np.zeros((1, 6), np.float32)})
            last = await pipeline.submit(inputs(chain()))
            with pytest.raises(InferenceFailed, match="not inputs of this part"):
                await bad
            with pytest.raises(InferenceFailed):
                await unknown
            assert_same(await good, run(chain(), inputs(chain())))
            assert_same(await last, run(chain(), inputs(chain())))


async def test_parts_are_checked(aimle: Server, node: ProcessingNode) -> None:
    """A part has the announced digest and is a model that runs; else nothing is loaded, and it is said why."""
    uri = aimle.files.put(chain())
    right = hashlib.sha256(chain()).hexdigest()
    assert (await aimle.call(node, "POST", "/stages", {"modelUri": uri, "sha256": right}))[0] == 201
    for body, param in (
        ({"modelUri": uri, "sha256": "00" * 32}, "/sha256"),
        ({"modelUri": aimle.files.put(b"no model")}, "/modelUri"),
        ({"modelUri": f"{aimle.files.url}/nothing"}, "/modelUri"),
        ({"modelUri": uri, "batch": 0}, "/batch"),
    ):
        status, problem, _ = await aimle.call(node, "POST", "/stages", body)
        assert (status, problem["invalidParams"][0]["param"]) == (400, param)
    assert len((await aimle.call(node, "GET", "/stages"))[1]["stages"]) == 1


async def test_a_stage_that_is_gone(aimle: Server, node: ProcessingNode) -> None:
    """After DELETE its addresses are nobody's, and connections to it are closed."""
    stage = await aimle.load(node, chain())
    path = f"/stages/{stage['stageId']}"
    async with aimle.session.ws_connect(stage["inputUri"]) as socket:
        assert (await aimle.call(node, "DELETE", path))[0] == 204
        message = await asyncio.wait_for(socket.receive(), 5)
        assert socket.closed or message.type.name in ("CLOSE", "CLOSED", "CLOSING")
    for method, where in (("GET", path), ("DELETE", path), ("GET", f"{path}/results/{STREAM}/0")):
        assert (await aimle.call(node, method, where))[0] == 404
    assert (await aimle.call(node, "GET", "/stages"))[1] == {"stages": []}


async def test_addresses_say_what_they_are(aimle: Server, node: ProcessingNode) -> None:
    """A WebSocket's address asked without an upgrade is 400, and so is a stream that is none."""
    stage = await aimle.load(node, chain())
    path = f"/stages/{stage['stageId']}"
    for where in (
        "/inputs",
        f"/results?stream={STREAM}",
        "/results?stream=xyz",
        "/results",
        "/results/xyz/0",
    ):
        assert (await aimle.call(node, "GET", path + where))[0] == 400
    assert (await aimle.call(node, "GET", f"{path}/results/{STREAM}/{'9' * 30}"))[0] == 404


async def test_a_part_is_measured(aimle: Server) -> None:
    """How long a part takes is measured here: a node that is ten times slower says so, and keeps nothing."""
    async with a_node() as fast, a_node(emulation=Emulation(slowdown=10.0)) as slow:
        seconds = []
        for node in (fast, slow):
            status, found, _ = await aimle.call(node, "POST", "/profiles?batch=256", data=residual())
            assert status == 200
            assert found["runs"] >= 3
            seconds.append(found["seconds"])
            assert (await aimle.call(node, "GET", "/stages"))[1] == {"stages": []}
    assert seconds[1] > 4 * seconds[0]
    async with a_node() as node:
        assert (await aimle.call(node, "POST", "/profiles", data=b"no model"))[0] == 400


async def test_a_link_is_measured(aimle: Server) -> None:
    """Bandwidth and latency of a link are those that it has."""
    async with a_node() as near:
        shape = LinkShape(bytes_per_s=2e6, latency_s=0.02)
        async with a_node(emulation=Emulation(links={near.uri: shape})) as far:
            status, probe, _ = await aimle.call(near, "POST", "/probes")
            assert status == 200
            status, found, _ = await aimle.call(far, "POST", "/links", probe)
    assert status == 200
    assert found["bytesPerSecond"] == pytest.approx(2e6, rel=0.2)
    assert found["latency"] == pytest.approx(0.02, rel=0.3)


async def test_a_link_to_nobody(aimle: Server, node: ProcessingNode) -> None:
    """A probe that does not answer is a conflict, not an error of the node."""
    status, problem, _ = await aimle.call(node, "POST", "/links", {"uri": "http://127.0.0.1:1/none"})
    assert (status, problem["cause"]) == (409, "NODE_UNREACHABLE")
    assert (await aimle.call(node, "GET", "/probes/none"))[0] == 404


async def test_a_pipeline_is_measured(aimle: Server) -> None:
    """Latency and frames per second, as somebody at a node has them, follow from how slow stages and links are."""
    whole = chain()
    async with a_node() as tail:
        shape = LinkShape(bytes_per_s=1e6, latency_s=0.03)
        async with a_node(emulation=Emulation(links={tail.uri: shape})) as head:
            stages = await aimle.pipeline([head, tail], parts(whole, 2))
            body = {
                "pipeline": {"headUri": stages[0]["inputUri"], "tailUri": stages[1]["resultsUri"]},
                "tensors": [{"name": "x", "dtype": "float32", "shape": [500, 6]}],
            }
            status, found, _ = await aimle.call(head, "POST", "/measurements", body)
    assert status == 200
    # 500 samples of 8 float32 are 16 kB, which take 16 ms, and another 30 ms to arrive.
    assert 0.046 < found["latency"] < 0.1
    assert 40 < found["framesPerSecond"] < 63


async def test_frames_are_timed(aimle: Server, node: ProcessingNode) -> None:
    """A stage says how long frames of the planned size take, and does not count others."""
    stage = await aimle.load(node, chain(), batch=8)
    async with SplitPipeline(stage["inputUri"], stage["resultsUri"]) as pipeline:
        await all_of(pipeline, [inputs(chain(), samples=3)])
        path = f"/stages/{stage['stageId']}"
        assert "secondsPerFrame" not in (await aimle.call(node, "GET", path))[1]
        await all_of(pipeline, [inputs(chain(), samples=8)])
        assert (await aimle.call(node, "GET", path))[1]["secondsPerFrame"] > 0

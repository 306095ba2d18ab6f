"""Connections break, and answers come twice: each input still has its one result."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
from aiohttp import web
from yarl import URL

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.split.emulation import Emulation
from aimle_client.split.frames import Frame
from aimle_client.split.pipeline import SplitPipeline
from aimle_server.split.aim import Aim
from aimle_server.split.planner import Stage
from tests.support_onnx import chain, inputs, run
from tests.support_proxy import Fault, Proxy, proxy_to
from tests.support_split import Server, Told, a_node, a_runner, all_of, server

pytestmark = pytest.mark.split

FRAMES = [inputs(chain(), samples=50, seed=seed) for seed in range(60)]


@pytest.fixture
async def aimle() -> AsyncIterator[Server]:
    """The AIMLE server's side."""
    async with server() as running:
        yield running


def assert_all(results: list[dict]) -> None:
    """One result for each frame, in order."""
    assert len(results) == len(FRAMES)
    for frame, result in zip(FRAMES, results, strict=True):
        np.testing.assert_allclose(result["y"], run(chain(), frame)["y"], rtol=0, atol=1e-5)


def by_way_of(proxy: Proxy, uri: str) -> str:
    """The same address behind a proxy."""
    return str(URL(uri).with_port(proxy.listening_on))


@pytest.mark.parametrize("cut", [0, 1_000, 4_000, 15_000])
@pytest.mark.parametrize("which", ["inputs", "results"])
async def test_a_connection_to_the_pipeline_breaks(aimle: Server, which: str, cut: int) -> None:
    """Wherever it breaks, at the head or at the tail, what has no result is sent again."""
    async with a_node() as node, proxy_to(URL(node.uri).port) as proxy:
        stage = await aimle.load(node, chain())
        head, tail = stage["inputUri"], stage["resultsUri"]
        if which == "inputs":
            head = by_way_of(proxy, head)
            proxy.up += [Fault(cut=cut), Fault(cut=cut)]
        else:
            tail = by_way_of(proxy, tail)
            proxy.down += [Fault(cut=cut), Fault(cut=cut)]
        async with SplitPipeline(head, tail) as pipeline:
            assert_all(await all_of(pipeline, FRAMES))
            assert pipeline.repeated > 0 or cut == 0
        assert len(proxy.sent_up) == 3


async def test_a_tail_that_answers_twice() -> None:
    """A result that comes again is nobody's: it is dropped, and counted."""
    waiting: asyncio.Queue[Frame] = asyncio.Queue()

    async def take(request: web.Request) -> web.StreamResponse:
        inputs = web.WebSocketResponse()
        await inputs.prepare(request)
        async for message in inputs:
            waiting.put_nowait(Frame.unpack(message.data))
        return inputs

    async def give_twice(request: web.Request) -> web.StreamResponse:
        results = web.WebSocketResponse()
        await results.prepare(request)
        while not results.closed:
            frame = await waiting.get()
            await results.send_bytes(frame.pack())
            await results.send_bytes(frame.pack())
        return results

    app = web.Application()
    app.router.add_get("/inputs", take)
    app.router.add_get("/results", give_twice)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with SplitPipeline(f"{url}/inputs", f"{url}/results") as pipeline:
        results = await all_of(pipeline, FRAMES)
        assert pipeline.duplicates >= len(FRAMES) - 1
    for frame, result in zip(FRAMES, results, strict=True):
        np.testing.assert_array_equal(result["x"], frame["x"])
    await runner.cleanup()


async def test_the_connection_between_two_nodes_breaks(aimle: Server) -> None:
    """Both nodes live, but a frame could not pass: their stages are made anew, and the stream goes on."""
    told, port = Told(), free_port()
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_to(port))
        head = await stack.enter_async_context(a_node(emulation=Emulation(slowdown=3.0)))
        tail = await stack.enter_async_context(a_node(listen=("127.0.0.1", port), public_url=proxy.url))
        uris, aim = {"head": head.uri, "tail": tail.uri}, Aim(batch=50, look_every=0.05, margin=1e9)
        runner = await stack.enter_async_context(a_runner(uris, chain(), aim, aimle.files, told))
        end = len(runner.cuts) + 1
        first = await runner.deploy([Stage("head", 0, 1), Stage("tail", 1, end)])
        told.pipeline = await stack.enter_async_context(SplitPipeline(first.head, first.tail, window=4))
        watching = asyncio.create_task(runner.watch())
        results = []
        async with asyncio.timeout(20):
            async for result in told.pipeline.map(FRAMES):
                results.append(result)
                if len(results) == 10:
                    proxy.cut_all()
        watching.cancel()
        assert_all(results)
        assert len(told.deployments) > 1


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

"""Split operation: planning, and what a frame costs on its way through a node beside its bytes.

The node runs a part that hands its input on, so what is left is reading, writing and sending; the bare side sends the
same bytes there and back over one WebSocket. Both ends of both sides are in this process.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import permutations

import aiohttp
import numpy as np
from aiohttp import web

from aimle_client.split.frames import MAX_MESSAGE, pack_tensors
from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_server.split.planner import Link, Objective, Problem, plan
from benchmarks.measure import Figures, Row, Scale, Target, alternate, column

GROUP = "pipelines"
NODES = "abcdefgh"
CUTS = 100
ROUNDS = 20
"""Frames of one measurement, one after another."""


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Seconds of a plan, and of a frame."""
    logging.getLogger("aimle").setLevel(logging.ERROR)  # nobody else has to be kept from the node
    for objective in Objective:
        problem = _problem(scale.size(CUTS, 10))
        seconds = [_timed(partial(plan, problem, objective)) for _ in range(scale.repetitions)]
        what = f"plan for {len(NODES)} nodes, {len(problem.sizes) - 2} cuts: {objective.value.lower()}"
        yield Row(GROUP, what, "s", seconds, target=Target(1))
    for values in (1_000, 1_000_000):
        frame = {"x": np.ones((1, values), np.float32)}
        async with _pipeline(values) as pipeline, _bare() as echo:
            message = pack_tensors(frame)
            ours, bare = await alternate(
                partial(_each, partial(pipeline.infer, frame)),
                partial(_each, partial(echo, message)),
                scale.repetitions,
            )
        what = f"a frame of {values:,} float32 through a node and back"
        yield Row(GROUP, what, "s", column(ours, "s"), "bare WebSocket", column(bare, "s"))


def _problem(cuts: int) -> Problem:
    rng = np.random.default_rng(1)
    work = np.cumsum(rng.uniform(0, 1, cuts + 2))
    whole = np.where(np.tri(cuts + 2, dtype=bool), np.inf, work[None, :] - work[:, None])
    links = {pair: Link(rng.uniform(1e5, 1e7), 0.01) for pair in permutations(NODES, 2)}
    times = {node: whole / rng.uniform(1, 10) for node in NODES}
    return Problem(rng.integers(1_000, 1_000_000, cuts + 2).tolist(), times, links, origin="a")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def _each(work: Callable[[], Awaitable[object]]) -> Figures:
    await work()
    began = time.perf_counter()
    for _ in range(ROUNDS):
        await work()
    return {"s": (time.perf_counter() - began) / ROUNDS}


@asynccontextmanager
async def _pipeline(values: int) -> AsyncIterator[SplitPipeline]:
    """Of one node, which gives what it takes."""
    content = _identity(values)

    async def give(_: web.Request) -> web.Response:
        return web.Response(body=content)

    async with (
        _serving("/", give) as url,
        ProcessingNode("http://127.0.0.1:1", insecure_no_auth=True) as node,
        aiohttp.ClientSession() as session,
        session.post(f"{node.uri}/aimle-split-node/v1/stages", json={"modelUri": url}) as answer,
    ):
        stage = await answer.json()
        async with SplitPipeline(stage["inputUri"], stage["resultsUri"]) as pipeline:
            yield pipeline


def _identity(values: int) -> bytes:
    from onnx import TensorProto, helper

    shape = ["N", values]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return content


@asynccontextmanager
async def _bare() -> AsyncIterator[Callable[[bytes], Awaitable[object]]]:
    """Send a message and have it back."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket

    async with (
        _serving("/", echo) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(url, max_msg_size=MAX_MESSAGE) as socket,
    ):

        async def there_and_back(message: bytes) -> object:
            await socket.send_bytes(message)
            return await socket.receive_bytes()

        yield there_and_back


@asynccontextmanager
async def _serving(
    path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    finally:
        await runner.cleanup()

"""Nodes of a pipeline die in the middle of a stream: no input is lost, and none is answered twice (TS 23.482 8.14)."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.split.pipeline import SplitPipeline
from aimle_server.split.aim import Aim
from aimle_server.split.execution import PipelineRunner
from aimle_server.split.planner import Stage
from tests.support import eventually
from tests.support_onnx import inputs, residual, run
from tests.support_split import Told, a_runner, serving_files

pytestmark = [pytest.mark.faults, pytest.mark.split]

SCRIPT = str(Path(__file__).with_name("split_node.py"))
NODES = ("ue", "edge", "cloud")
FRAMES = 400
SAMPLES = 16
SLOWDOWN = "3"

Processes = dict[str, asyncio.subprocess.Process]


async def start_node(processes: Processes, name: str, port: int = 0) -> str:
    """A node's process; its URI."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, SCRIPT, str(port), SLOWDOWN), stdout=asyncio.subprocess.PIPE
    )
    processes[name] = process
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


class Site:
    """Three nodes, a pipeline over all of them, and somebody who streams through it.

    Attributes:
        processes, uris: of the nodes, by name.
        runner: looks after the pipeline.
        pipeline: is told of each deployment.
        results: what has come so far.
    """

    def __init__(
        self, runner: PipelineRunner, processes: Processes, uris: dict[str, str], told: Told
    ) -> None:
        self.runner, self.processes, self.uris, self.told = runner, processes, uris, told
        self.results: list[np.ndarray] = []
        self.frames = [inputs(residual(), SAMPLES, seed) for seed in range(FRAMES)]

    async def stream(self) -> None:
        """Send all frames and collect the results."""
        async for result in self.told.pipeline.map(self.frames):
            self.results.append(result["scores"])

    async def well_under_way(self) -> None:
        """Return when some results are here, and many are not."""
        await eventually(lambda: len(self.results) > 20)
        assert len(self.results) < FRAMES / 2

    def signal(self, name: str, what: signal.Signals) -> None:
        """Send a signal to a node."""
        self.processes[name].send_signal(what)

    def check(self) -> None:
        """One result for each frame, in order, and the right one."""
        assert len(self.results) == FRAMES
        for frame, found in zip(self.frames, self.results, strict=True):
            np.testing.assert_allclose(found, run(residual(), frame)["scores"], rtol=0, atol=1e-5)

    def nodes_at_work(self) -> list[str]:
        """Names of those of the deployment."""
        assert self.runner.deployment is not None
        return [one.stage.node for one in self.runner.deployment.stages]


@asynccontextmanager
async def a_site() -> AsyncIterator[Site]:
    """With a stage at each node, watched; no node is left at the end."""
    processes: Processes = {}
    told = Told()
    aim = Aim(batch=SAMPLES, most_cuts=3, look_every=0.2, review_every=10_000)
    try:
        uris = {name: await start_node(processes, name) for name in NODES}
        async with serving_files() as files, a_runner(uris, residual(), aim, files, told) as runner:
            end = len(runner.cuts) + 1
            borders = [0, 1, 2, end]
            await runner.deploy([Stage(name, borders[n], borders[n + 1]) for n, name in enumerate(NODES)])
            watching = asyncio.create_task(runner.watch())
            deployment = runner.deployment
            async with SplitPipeline(deployment.head, deployment.tail) as told.pipeline:
                yield Site(runner, processes, uris, told)
            watching.cancel()
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("dies", NODES)
async def test_a_node_that_is_killed(dies: str) -> None:
    """Head, middle or tail: what was under way is run again on the others, and each input has its one result."""
    async with a_site() as site, asyncio.timeout(60):
        streaming = asyncio.create_task(site.stream())
        await site.well_under_way()
        site.signal(dies, signal.SIGKILL)
        await streaming
        site.check()
        assert dies not in site.nodes_at_work()
        assert site.told.pipeline.repeated > 0


async def test_a_node_that_freezes() -> None:
    """A node that keeps its connections and does nothing is as good as dead; when it wakes, nothing comes twice."""
    async with a_site() as site, asyncio.timeout(60):
        streaming = asyncio.create_task(site.stream())
        await site.well_under_way()
        site.signal("edge", signal.SIGSTOP)
        await eventually(lambda: len(site.told.deployments) > 1, timeout=20)
        site.signal("edge", signal.SIGCONT)
        await streaming
        site.check()


async def test_all_but_one_are_killed() -> None:
    """As long as one node is left that can run the model, the stream goes on."""
    async with a_site() as site, asyncio.timeout(60):
        streaming = asyncio.create_task(site.stream())
        await site.well_under_way()
        site.signal("edge", signal.SIGKILL)
        site.signal("cloud", signal.SIGKILL)
        await streaming
        site.check()
        assert site.nodes_at_work() == ["ue"]


async def test_all_are_killed() -> None:
    """With no node left the stream waits, and goes on where it was when one is back."""
    async with a_site() as site, asyncio.timeout(60):
        streaming = asyncio.create_task(site.stream())
        await site.well_under_way()
        for name in NODES:
            site.signal(name, signal.SIGKILL)
        await eventually(lambda: site.told.deployments[-1] is None, timeout=20)
        assert not streaming.done()
        await site.processes["edge"].wait()
        await start_node(site.processes, "edge", int(site.uris["edge"].rpartition(":")[2]))
        await streaming
        site.check()
        assert site.nodes_at_work() == ["edge"]

"""What happens in the demonstration, and what it prints."""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from aimle_client.split.frames import pack_tensors, unpack_tensors
from aimle_client.split.part import Part
from aimle_client.split.pipeline import SplitPipeline
from aimle_server.demo.split import network
from aimle_server.demo.split.cast import EDGE, LINKS, SLOWDOWNS, UE, Cast, PartFiles, node_processes
from aimle_server.split.cutting import CuttableModel
from aimle_server.split.deployment import Deployment, Measurement
from aimle_server.split.execution import Aim, PipelineRunner
from aimle_server.split.nodes import Fleet, NodeClient
from aimle_server.split.planner import NoPlan, Plan, Problem, Stage, predict
from sbi.outbound import Outbound, TargetPolicy

BATCH = 64
EPOCHS = 5
SEED = 7
STREAM = 60
"""Frames that are sent through the pipeline while the edge node is killed."""
KILLED_AFTER = 20
LEAST_ACCURACY = 0.9
SAME = 1e-5
"""How far results may be from those of the network in one piece."""
AIM = Aim(batch=BATCH, origin=UE, most_cuts=4, look_every=0.2)


class DemoError(Exception):
    """The demonstration did not work; the message says what."""


@dataclass
class Digits:
    """Digits that nobody trained on, in frames, and what the unsplit network makes of them."""

    frames: list[network.Array]
    labels: list[npt.NDArray[np.intp]]
    expected: list[network.Array]
    seen: int = field(default=0)

    def check(self, number: int, scores: network.Array) -> int:
        """How many of a frame are recognized; DemoError if its results are not the network's."""
        which = number % len(self.frames)
        difference = float(np.abs(scores - self.expected[which]).max())
        if difference > SAME:
            raise DemoError(f"results differ by {difference} from those of the network in one piece")
        self.seen += len(scores)
        return int((scores.argmax(axis=1) == self.labels[which]).sum())


def main() -> int:
    """Run the demonstration; the process's exit status."""
    console = Console(highlight=False)
    logging.getLogger("aimle").setLevel(logging.ERROR)  # that a node is killed is told below
    try:
        accuracy = asyncio.run(_run(console))
    except (DemoError, NoPlan) as error:
        print(f"aimle-server demo --split: {error}", file=sys.stderr)
        return 1
    console.print(f"test accuracy {accuracy:.3f}")
    return 0 if accuracy >= LEAST_ACCURACY else 1


async def _run(console: Console) -> float:
    model, digits = await asyncio.to_thread(_trained)
    console.print(f"a convolutional network, trained with NumPy: {len(model):,} bytes of ONNX")
    with node_processes() as cast:
        async with AsyncExitStack() as stack:
            files = await stack.enter_async_context(PartFiles().serving())
            outbound = Outbound(TargetPolicy(allow=(ip_network("127.0.0.0/8"),)))
            stack.push_async_callback(outbound.close)
            nodes = {name: NodeClient(outbound, uri) for name, uri in cast.uris.items()}
            await _all_there(nodes)
            moved = _Moved()
            runner = PipelineRunner(nodes, CuttableModel(model), files.store, AIM, tell=moved)
            stack.push_async_callback(runner.stop)
            await _compare(console, runner)
            return await _kill_the_edge(console, runner, cast, digits, moved)


def _trained() -> tuple[bytes, Digits]:
    pixels, labels = load_digits(return_X_y=True)
    images = network.enlarged((pixels / 16).astype(np.float32))
    test, rest = np.split(np.random.default_rng(SEED).permutation(len(images)), [5 * BATCH])
    weights = network.train(images[rest], labels[rest], epochs=EPOCHS, seed=SEED)
    frames = [images[part] for part in np.split(test, 5)]
    model = network.to_onnx(weights)
    whole = Part(model)
    ran = [whole.run(pack_tensors({"image": frame})) for frame in frames]
    expected = [unpack_tensors(one.payload)["scores"] for one in ran]
    return model, Digits(frames, [labels[part] for part in np.split(test, 5)], expected)


async def _all_there(nodes: dict[str, NodeClient]) -> None:
    for _ in range(200):
        if len(await Fleet(nodes).look()) == len(nodes):
            return
        await asyncio.sleep(0.1)
    raise DemoError("the nodes did not start")


async def _compare(console: Console, runner: PipelineRunner) -> None:
    """Measure everything, and try the best split of each set of nodes."""
    for name, slowdown in SLOWDOWNS.items():
        console.print(f"  {name:5} computes {slowdown:.0f} times slower than a core of this machine")
    for (one, two), shape in LINKS.items():
        console.print(
            f"  {one} - {two}: {shape.bytes_per_s * 8 / 1e6:.0f} Mbit/s, {shape.latency_s * 1e3:.0f} ms"
        )
    console.print("measuring each part on each node, and each link ...")
    problem = await runner.problem()
    tried: list[tuple[Plan, Measurement | None]] = []
    for candidate in _candidates(problem):
        await runner.deploy(candidate.stages)
        tried.append((candidate, await runner.measure(frames=3)))
    chosen = (await runner.start()).plan
    console.print(_table(tried, chosen, runner))
    if chosen.latency_s > min(candidate.latency_s for candidate, _ in tried) * 1.001:
        raise DemoError("the planner did not choose the least latency")


def _candidates(problem: Problem) -> list[Plan]:
    """The best split of each set of nodes, from the fastest on."""
    end = len(problem.sizes) - 1
    found = []
    for count in range(1, min(len(problem.times), end) + 1):
        for names in combinations(problem.times, count):
            possible = [
                predict(problem, [Stage(*one) for one in zip(order, (0, *cuts), (*cuts, end), strict=True)])
                for order in permutations(names)
                for cuts in combinations(range(1, end), count - 1)
            ]
            found.append(min(possible, key=lambda plan: plan.latency_s))
    return sorted(found, key=lambda plan: plan.latency_s)


def _table(tried: Sequence[tuple[Plan, Measurement | None]], chosen: Plan, runner: PipelineRunner) -> Table:
    columns = ("", "stages", "predicted", "measured", "error")
    table = Table(*columns, title=f"the best split of each set of nodes, {BATCH} images from the ue and back")
    for plan, measurement in tried:
        mark = "chosen" if plan.stages == chosen.stages else ""
        predicted = f"{plan.latency_s * 1e3:.0f} ms"
        if measurement is None:
            table.add_row(mark, _words(plan, runner), predicted, "-", "-")
            continue
        measured, error = f"{measurement.latency_s * 1e3:.0f} ms", f"{measurement.latency_error:+.0%}"
        table.add_row(mark, _words(plan, runner), predicted, measured, error)
    return table


def _words(plan: Plan, runner: PipelineRunner) -> str:
    """`ue -pool0-> edge`: the nodes, and what crosses from each to the next."""
    cuts = [", ".join(point.tensors) for point in runner.cuts]
    words = [
        stage.node + (f" -{cuts[stage.last_cut - 1]}->" if stage.last_cut <= len(cuts) else "")
        for stage in plan.stages
    ]
    return " ".join(words)


@dataclass
class _Moved:
    """Has the pipeline follow its deployments."""

    pipeline: SplitPipeline | None = None

    async def __call__(self, deployment: Deployment | None) -> None:
        if self.pipeline is not None and deployment is not None:
            self.pipeline.move(deployment.head, deployment.tail)


async def _kill_the_edge(
    console: Console, runner: PipelineRunner, cast: Cast, digits: Digits, moved: _Moved
) -> float:
    """Send frames, kill the edge node on the way, and see that each frame has its one result; the accuracy."""
    watching = asyncio.create_task(runner.watch())
    right, arrivals = await _stream(runner, cast, digits, moved)
    watching.cancel()
    measurement, now = await runner.measure(), runner.deployment
    if len(arrivals) != STREAM or moved.pipeline is None or measurement is None or now is None:
        raise DemoError("not every frame has one result, or there is no pipeline any more")
    again, twice = moved.pipeline.repeated, moved.pipeline.duplicates
    console.print(f"{STREAM} frames sent, all results those of the network in one piece to {SAME:g}")
    console.print(
        f"after {KILLED_AFTER} of them the edge node was killed (kill -9); {again} frames were sent again,"
    )
    pause = max(np.diff(arrivals[KILLED_AFTER - 1 :]))
    console.print(
        f"the longest pause was {pause:.1f} s, and {twice} results came a second time and were dropped"
    )
    predicted, measured = measurement.predicted_latency_s * 1e3, measurement.latency_s * 1e3
    words = f"{_words(now.plan, runner)}, predicted {predicted:.0f} ms, measured {measured:.0f} ms"
    console.print(f"now: {words}; {STREAM} frames, {len(arrivals)} results")
    return right / digits.seen


async def _stream(
    runner: PipelineRunner, cast: Cast, digits: Digits, moved: _Moved
) -> tuple[int, list[float]]:
    """How many digits were recognized, and when each result came."""
    deployment = runner.deployment
    if deployment is None:
        raise DemoError("there is no pipeline")
    frames = ({"image": digits.frames[number % len(digits.frames)]} for number in range(STREAM))
    arrivals: list[float] = []
    right = 0
    ends = deployment.head, deployment.tail
    async with SplitPipeline(*ends, window=4, emulation=cast.emulations[UE]) as moved.pipeline:
        async for result in moved.pipeline.map(frames):
            right += digits.check(len(arrivals), result["scores"])
            arrivals.append(time.monotonic())
            if len(arrivals) == KILLED_AFTER:
                cast.processes[EDGE].kill()
    return right, arrivals

"""What the VAL server of the demonstration does, and what it prints."""

import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from aimle_client.errors import AimleClientError
from aimle_client.split.frames import pack_tensors, unpack_tensors
from aimle_client.split.part import Part
from aimle_client.val import ClientCredentials, Pipeline, ValServer
from aimle_server.demo.cast import DemoError, make_credentials, server_process
from aimle_server.demo.split import network
from aimle_server.demo.split.cast import EDGE, LINKS, MODEL, NODES, SLOWDOWNS, UE, Cast, node_processes

SERVICE = "val-digits"
BATCH = 64
EPOCHS = 5
SEED = 7
STREAM = 60
"""Frames that are sent through the pipeline while the edge node is killed."""
KILLED_AFTER = 20
LEAST_ACCURACY = 0.9
SAME = 1e-5
"""How far results may be from those of the network in one piece."""
NOISE = 1.25
"""By how much predictions may differ that are made one after the other: by less a plan that works is not replaced."""


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


@dataclass(frozen=True)
class Split:
    """A split that ran: its parts from the head to the tail, and seconds of a frame, predicted and measured."""

    words: str
    nodes: Sequence[str]
    predicted: float
    measured: float
    error: float

    @classmethod
    def of(cls, pipeline: Pipeline, cast: Cast) -> "Split":
        """What a pipeline's profile says."""
        execution: Mapping[str, Any] = pipeline.profile["aimle"]["execution"]
        nodes = [cast.name_of(part["node"]) for part in execution["parts"]]
        crossing = [", ".join(part["gives"]) for part in execution["parts"][:-1]]
        words = nodes[0] + "".join(
            f" -{tensors}-> {node}" for tensors, node in zip(crossing, nodes[1:], strict=True)
        )
        numbers = (execution[name] for name in ("predictedLatency", "latency", "latencyError"))
        return cls(words, nodes, *numbers)


def main() -> int:
    """Run the demonstration; the process's exit status."""
    console = Console(highlight=False)
    logging.getLogger("aimle").setLevel(logging.ERROR)  # that a node is killed is told below
    try:
        accuracy = asyncio.run(_run(console))
    except (DemoError, AimleClientError) as error:
        print(f"aimle-server demo --split: {error}", file=sys.stderr)
        return 1
    console.print(f"test accuracy {accuracy:.3f}")
    return 0 if accuracy >= LEAST_ACCURACY else 1


async def _run(console: Console) -> float:
    model, digits = await asyncio.to_thread(_trained)
    console.print(f"a convolutional network, trained with NumPy: {len(model):,} bytes of ONNX")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aimle-demo-")))
        url = await stack.enter_async_context(server_process(folder, log_level="ERROR"))
        console.print(f"AIMLE server with embedded database at {url}")
        secrets = await make_credentials(folder, [SERVICE, *NODES])
        cast = await stack.enter_async_context(node_processes(url, secrets))
        _introduce(console)
        credentials = ClientCredentials(SERVICE, secrets[SERVICE])
        val = await stack.enter_async_context(ValServer(url, credentials, listen=("127.0.0.1", 0)))
        await _store(val, model, folder / "digits.onnx")
        tried = await _tried(console, val, cast)
        pipeline = await _create(val, cast, NODES)
        chosen = Split.of(pipeline, cast)
        console.print(_table(tried, chosen))
        if chosen.predicted > NOISE * min(split.predicted for split in tried):
            raise DemoError("the server did not choose the least latency")
        return await _kill_the_edge(console, pipeline, cast, digits)


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


def _introduce(console: Console) -> None:
    console.print("three nodes, each its own process, registered at the server")
    for name, slowdown in SLOWDOWNS.items():
        console.print(f"  {name:5} computes {slowdown:.0f} times slower than a core of this machine")
    for (one, two), shape in LINKS.items():
        console.print(
            f"  {one} - {two}: {shape.bytes_per_s * 8 / 1e6:.0f} Mbit/s, {shape.latency_s * 1e3:.0f} ms"
        )


async def _store(val: ValServer, model: bytes, path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, model)
    await val.store_model(MODEL, services=[SERVICE], info={"interopInfo": "ONNX"})
    await val.upload_model(MODEL, path)


async def _tried(console: Console, val: ValServer, cast: Cast) -> list[Split]:
    """The best split of each set of nodes, from the fastest on: each runs, and is measured."""
    console.print("trying each set of nodes: parts and links are measured, the best split runs ...")
    tried = []
    for count in range(1, len(NODES) + 1):
        for names in combinations(NODES, count):
            pipeline = await _create(val, cast, names, in_order=True)
            tried.append(Split.of(pipeline, cast))
            await pipeline.delete()
    return sorted(tried, key=lambda split: split.predicted)


async def _create(val: ValServer, cast: Cast, names: Sequence[str], **options: Any) -> Pipeline:
    uris = [cast.uris[name] for name in names]
    pipeline = await val.create_pipeline(MODEL, uris, origin=cast.uris[UE], batch=BATCH, **options)
    async with asyncio.timeout(60):
        await pipeline.until_ready()
    return pipeline


def _table(tried: Sequence[Split], chosen: Split) -> Table:
    columns = ("", "stages", "predicted", "measured", "error")
    table = Table(*columns, title=f"the best split of each set of nodes, {BATCH} images from the ue and back")
    for split in [chosen, *(split for split in tried if split.nodes != chosen.nodes)]:
        mark = "chosen" if split is chosen else ""
        predicted, measured = (f"{seconds * 1e3:.0f} ms" for seconds in (split.predicted, split.measured))
        table.add_row(mark, split.words, predicted, measured, f"{split.error:+.0%}")
    return table


async def _kill_the_edge(console: Console, pipeline: Pipeline, cast: Cast, digits: Digits) -> float:
    """Send frames, kill the edge node on the way, and see that each frame has its one result; the accuracy."""
    frames = ({"image": digits.frames[number % len(digits.frames)]} for number in range(STREAM))
    arrivals: list[float] = []
    right = 0
    async with pipeline.open(window=4, emulation=cast.emulations[UE]) as stream:
        async for result in stream.map(frames):
            right += digits.check(len(arrivals), result["scores"])
            arrivals.append(time.monotonic())
            if len(arrivals) == KILLED_AFTER:
                cast.processes[EDGE].kill()
    pause = max(np.diff(arrivals[KILLED_AFTER - 1 :]))
    console.print(f"{STREAM} frames sent, all results those of the network in one piece to {SAME:g}")
    console.print(f"after {KILLED_AFTER} of them the edge node was killed (kill -9):")
    console.print(f"  {stream.repeated} frames were sent again, the longest pause was {pause:.1f} s,")
    console.print(f"  {stream.duplicates} results came a second time and were dropped")
    console.print(f"{STREAM} frames, {len(arrivals)} results")
    if len(arrivals) != STREAM:
        raise DemoError("not every frame has one result")
    now = await _measured(pipeline, cast)
    console.print(
        f"now: {now.words}, predicted {now.predicted * 1e3:.0f} ms, measured {now.measured * 1e3:.0f} ms"
    )
    return right / digits.seen


async def _measured(pipeline: Pipeline, cast: Cast, seconds: float = 30) -> Split:
    """The split as it is now; the server measures it when nobody uses it any more."""
    async with asyncio.timeout(seconds):
        while "latency" not in pipeline.profile["aimle"]["execution"]:
            await pipeline.changed()
    return Split.of(pipeline, cast)

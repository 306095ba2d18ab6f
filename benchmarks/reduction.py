"""What smaller updates cost: bytes of an update and accuracy of the model, for each option against whole updates.

The demonstration's task: ten clients, each a process, with uneven shares of handwritten digits; a perceptron of 4,810
float32; and as many rounds as the demonstration needs for its target. Each repetition has its own first model and
order of samples, the same for every option. Bytes are what the server took in, headers and metadata of the files
included; accuracy is that of the result on 359 digits that nobody trained on, of which it takes some for others.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp

from aimle_client.trainers.base import Dataset
from aimle_client.trainers.numpy_models import MLP
from aimle_client.val import Objective, TrainingProfile, ValServer, discovery_criteria
from aimle_server.demo.cast import client_processes
from aimle_server.demo.digits import CLASSES, PIXELS, held_out_and_shares
from aimle_server.demo.story import CLIENTS, HIDDEN, PROFILE, SEED
from benchmarks.measure import Figures, Row, Scale, column
from benchmarks.server import SERVICE, START_SECONDS, Server, running_server

GROUP = "reduction"
ROUNDS = 11
"""That the demonstration needs for its target."""

FIGURES = (
    ("bytes", "size of an update", "bytes"),
    ("accuracy", "accuracy of the result", "%"),
    ("missed", "test digits that the result takes for others", "digits"),
)
"""Of each training: the figure's name, what it is, and its unit."""

WHOLE = "whole updates"
OPTIONS = {
    "zstd": TrainingProfile(update_compression="ZSTD"),
    "differences": TrainingProfile(update_delta=True),
    "differences, zstd": TrainingProfile(update_delta=True, update_compression="ZSTD"),
    "float16": TrainingProfile(update_dtype="FLOAT16"),
    "bfloat16": TrainingProfile(update_dtype="BFLOAT16"),
    "float16 differences": TrainingProfile(update_dtype="FLOAT16", update_delta=True),
    "bfloat16 differences": TrainingProfile(update_dtype="BFLOAT16", update_delta=True),
    "float16 differences, zstd": TrainingProfile(
        update_dtype="FLOAT16", update_delta=True, update_compression="ZSTD"
    ),
    "bfloat16 differences, zstd": TrainingProfile(
        update_dtype="BFLOAT16", update_delta=True, update_compression="ZSTD"
    ),
}
"""The options of a training profile, by what they are called here."""


@dataclass
class Task:
    """A server, and clients that are registered.

    Attributes:
        test: the digits that nobody trains on.
    """

    server: Server
    val: ValServer
    test: Dataset
    number: int = 0

    async def train(self, options: TrainingProfile, seed: int, rounds: int) -> Figures:
        """Train a model of this seed for so many rounds: the figures of `FIGURES`."""
        self.number += 1
        model = f"digits-{self.number}"
        first = MLP.initial_parameters(PIXELS, CLASSES, hidden=HIDDEN, seed=seed)
        await self.val.store_model(model, first, services=[SERVICE])
        before = await self._taken()
        training = await self.val.train(
            model_id=model,
            dataset_ids=["digits"],
            members=_names(),
            objective=Objective(max_epochs=rounds * (PROFILE.local_epochs or 1)),
            profile=replace(
                options,
                local_epochs=PROFILE.local_epochs,
                batch_size=PROFILE.batch_size,
                learning_rate=PROFILE.learning_rate,
                seed=seed,
                min_reports=1.0,
            ),
        )
        status = await training.wait()
        if status.state != "COMPLETED" or status.output_model_id is None or status.round != rounds:
            raise RuntimeError(
                f"the training ended as {status.state} in round {status.round}: {status.reason}"
            )
        updates = sum(entry.participants for entry in status.history)
        result = await self.val.download_model(status.output_model_id)
        tester = MLP(self.test, self.test, classes=CLASSES, hidden=HIDDEN)
        accuracy = tester.evaluate(result).metrics["accuracy"]
        return {
            "bytes": (await self._taken() - before) / updates,
            "accuracy": 100 * accuracy,
            "missed": round((1 - accuracy) * len(self.test)),
        }

    async def _taken(self) -> float:
        """Bytes of updates that the server has taken in so far."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.server.url}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                if line.startswith("aimle_update_bytes_total "):
                    return float(line.split()[1])
        raise RuntimeError("the server does not say how many bytes it took in")


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Bytes and per cent."""
    rounds = scale.size(ROUNDS, 2)
    seeds = range(SEED, SEED + scale.repetitions)
    async with _task() as task:
        whole = [await task.train(TrainingProfile(), seed, rounds) for seed in seeds]
        for name, options in OPTIONS.items():
            found = [await task.train(options, seed, rounds) for seed in seeds]
            for figure, what, unit in FIGURES:
                ours, others = column(found, figure), column(whole, figure)
                yield Row(GROUP, f"{name}: {what}", unit, ours, WHOLE, others)


@asynccontextmanager
async def _task() -> AsyncIterator[Task]:
    test, shares = held_out_and_shares(CLIENTS, SEED)
    async with running_server() as server:
        secrets = await server.add_clients([SERVICE, *_names()])
        async with server.val(secrets.pop(SERVICE)) as val:
            with client_processes(server.url, secrets, SERVICE, shares, HIDDEN):
                await _registered(val)
                yield Task(server, val, test)


async def _registered(val: ValServer) -> None:
    """Return when every client is."""
    deadline = time.monotonic() + START_SECONDS
    while len((await val.discover(discovery_criteria(SERVICE, datasets=["digits"]))).clients) < CLIENTS:
        if time.monotonic() > deadline:
            raise RuntimeError("not all clients registered")
        await asyncio.sleep(0.1)


def _names() -> list[str]:
    return [f"ue-{number}" for number in range(1, CLIENTS + 1)]

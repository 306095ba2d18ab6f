"""A server and clients in processes of their own, and trainings of a model whose result is known."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from aimle_client.val import Objective, TrainingStatus, ValServer
from benchmarks.server import DATASET, SERVICE, Server, in_tensors, process, running_server

_PATIENCE = 1800.0


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        requested: when it was asked for, in seconds since the epoch.
        status: its end, with the history of its rounds.
    """

    requested: float
    status: TrainingStatus

    def round_seconds(self) -> list[float]:
        """From the beginning of each round to that of the next; the last round, which has no next, is left out."""
        started = [entry.started for entry in self.status.history]
        return [
            (after - before).total_seconds()
            for before, after in pairwise(started)
            if before is not None and after is not None
        ]


class Cast:
    """A server, and clients that are registered.

    Attributes:
        server: the server.
        lines: what the clients have printed since `ready`: a queue of JSON.
    """

    def __init__(self, server: Server, val: ValServer, names: Sequence[str]) -> None:
        self.server = server
        self.lines: asyncio.Queue[Any] = asyncio.Queue()
        self._val = val
        self._names = names
        self._number = 0

    async def train(self, values: int, rounds: int) -> Trained:
        """Train a model of so many values, all 0 in the beginning, for so many rounds, and check the result.

        Raises:
            RuntimeError: it did not come to its end, or the result is another than it must be.
        """
        self._number += 1
        model = f"bench-{self._number}"
        await self._val.store_model(model, in_tensors(np.zeros(values, np.float32)), services=[SERVICE])
        requested = time.time()
        training = await self._val.train(
            model_id=model,
            dataset_ids=[DATASET],
            members=self._names,
            objective=Objective(max_epochs=rounds),
        )
        async with asyncio.timeout(_PATIENCE):
            status = await training.wait()
        if status.state != "COMPLETED" or status.output_model_id is None or status.round != rounds:
            raise RuntimeError(
                f"the training ended as {status.state} in round {status.round}: {status.reason}"
            )
        await self._check(status.output_model_id, rounds)
        return Trained(requested, status)

    async def _check(self, model: str, rounds: int) -> None:
        """Each round adds the mean of 1 to n, the clients' constants."""
        expected = rounds * (len(self._names) + 1) / 2
        for name, part in (await self._val.download_model(model)).items():
            if not np.allclose(part, expected):
                raise RuntimeError(f"{name} is {part[:3]}, not {expected}")

    async def listen(self, source: asyncio.StreamReader) -> None:
        """Collect what a client process prints."""
        while line := await source.readline():
            self.lines.put_nowait(json.loads(line))


@asynccontextmanager
async def cast(clients: int, processes: int) -> AsyncIterator[Cast]:
    """A server and so many clients, dealt to so many processes."""
    names = [f"client-{number}" for number in range(1, clients + 1)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server())
        secrets = await server.add_clients([SERVICE, *names])
        val = await stack.enter_async_context(server.val(secrets[SERVICE]))
        found = Cast(server, val, names)
        hands = [{name: secrets[name] for name in names[number::processes]} for number in range(processes)]
        starting = [_client_process(server, hand) for hand in hands]
        for running in await asyncio.gather(*(stack.enter_async_context(each) for each in starting)):
            assert running.stdout is not None
            listening = asyncio.create_task(found.listen(running.stdout))
            stack.callback(listening.cancel)
        yield found


@asynccontextmanager
async def _client_process(
    server: Server, secrets: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    stdin = json.dumps(secrets).encode()
    async with process("benchmarks.client", server.url, stdin=stdin) as (running, _):
        yield running

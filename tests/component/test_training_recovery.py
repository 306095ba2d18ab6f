"""Trainings outlive the server that runs them, and its memory does not grow with them (TS 23.482 8.12)."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from aimle_client.http import RetryPolicy
from aimle_client.ue import AimleClient
from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from ml_repository.database import Database
from tests.support import eventually
from tests.support_participant import Participant, all_asked, participants
from tests.support_training import (
    ADAM,
    SERVICE,
    Pull,
    begin,
    events_of,
    fedadam,
    hears_nothing_more,
    serving,
    ue,
    val_server,
)

ROUNDS = 4
PROFILE = TrainingProfile(**ADAM, learning_rate=0.5, seed=3)  # type: ignore[arg-type]
ONE_TRY = RetryPolicy(attempts=1)


@dataclass
class Held:
    """A training of two clients by FEDADAM; the first one's trainer waits in the third round."""

    training: Training
    trainers: dict[str, Pull]
    clients: dict[str, AimleClient]

    async def goes_on(self, val: ValServer) -> None:
        """Let it run; it ends with the model of an undisturbed training."""
        self.trainers["ue-1"].gate.set()
        events = await events_of(self.training)
        await eventually(lambda: hears_nothing_more(self.clients))
        assert (events[-1].state, events[-1].evaluated_round) == ("COMPLETED", ROUNDS)
        assert [event.round for event in events[:-1]] == list(range(1, ROUNDS + 1))
        result = await val.download_model(str(events[-1].output_model_id))
        expected = fedadam(self.trainers, ROUNDS, learningRate=0.5, seed=3)
        np.testing.assert_allclose(result["w"], expected, atol=1e-5)


@contextlib.asynccontextmanager
async def held_in_round_three(url: str) -> AsyncIterator[Held]:
    """The training at this server, whose clients outlive the server."""
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}

    def hold(_: object) -> None:
        if len(trainers["ue-1"].configs) == 2:
            trainers["ue-1"].gate.clear()

    async with AsyncExitStack() as stack:
        stack.callback(trainers["ue-1"].gate.set)
        clients = {
            name: await stack.enter_async_context(ue(url, name, trainer, retry=ONE_TRY))
            for name, trainer in trainers.items()
        }
        clients["ue-1"].on_round(hold)
        val = await stack.enter_async_context(ValServer(url, listen=("127.0.0.1", 0)))
        objective = Objective(max_epochs=ROUNDS)
        training = await begin(val, members=list(trainers), objective=objective, profile=PROFILE)
        await eventually(lambda: len(trainers["ue-1"].configs) == 3)
        yield Held(training, trainers, clients)


async def test_a_server_that_stops_and_one_that_starts(mongo_url: str, database: Database) -> None:
    """Another server with the same database and nothing on its disk goes on from the last committed round."""
    async with AsyncExitStack() as first:
        server = await first.enter_async_context(serving(mongo_url, database))
        async with held_in_round_three(server.url) as held:
            await first.aclose()
            async with serving(mongo_url, database) as second, val_server(second) as val:
                await held.goes_on(val)


async def test_a_server_that_dies_while_it_stores_the_result(mongo_url: str, database: Database) -> None:
    """Whoever takes over stores the result, and says so once."""
    finish = {"state": "COMPLETED", "round": 2, "reason": "enough", "error": None}
    async with AsyncExitStack() as first:
        server = await first.enter_async_context(serving(mongo_url, database))
        async with held_in_round_three(server.url) as held:
            await first.aclose()
            await database["trainings"].update_one({}, {"$set": {"state": "AGGREGATING", "finish": finish}})
            async with serving(mongo_url, database) as second, val_server(second) as val:
                events = await events_of(held.training)
                result = await val.download_model(str(events[-1].output_model_id))
                await eventually(lambda: hears_nothing_more(held.clients))
    assert [event.state for event in events] == [None, None, "COMPLETED"]
    np.testing.assert_allclose(result["w"], fedadam(held.trainers, 2, learningRate=0.5, seed=3), atol=1e-5)


async def test_a_server_that_dies_right_after_the_end(mongo_url: str, database: Database) -> None:
    """Whoever takes over tells the clients, and removes what only the running training needed."""
    async with AsyncExitStack() as first:
        server = await first.enter_async_context(serving(mongo_url, database))
        async with held_in_round_three(server.url) as held:
            await first.aclose()
            await database["trainings"].update_one({}, {"$set": {"state": "FAILED", "reason": "enough"}})
            assert not hears_nothing_more(held.clients)
            async with serving(mongo_url, database) as second, val_server(second) as val:
                await eventually(lambda: hears_nothing_more(held.clients))
                await eventually(lambda: _only_the_first_model_is_left(database))
                assert (await val.training_status(held.training.id)).state == "FAILED"


async def _only_the_first_model_is_left(database: Database) -> bool:
    return [await database[name].count_documents({}) for name in ("models", "artifacts")] == [1, 1]


@dataclass
class Process:
    """`aimle-server run` on the tests' database, on a port of its own; `start` it again after `kill`."""

    folder: Path
    environment: dict[str, str]
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its apiRoot."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Return when it answers."""
        command = [sys.executable, "-m", "aimle_server", "run", "--port", str(self.port)]
        with (self.folder / "log").open("a") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=self.folder, env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line.startswith(b"aimle-server is ready"), (self.folder / "log").read_text()

    async def kill(self) -> None:
        """SIGKILL, as by the kernel or a power cut."""
        assert self.process is not None
        self.process.kill()
        await self.process.communicate()

    def forget_peak(self) -> int:
        """Begin to measure the peak of its memory; what it has now, in bytes."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self._memory("VmRSS")

    @property
    def peak(self) -> int:
        """The most memory that it had since, in bytes."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@pytest.fixture
async def process(
    tmp_path: Path, mongo_url: str, database: Database, unused_tcp_port: int
) -> AsyncIterator[Process]:
    """A server in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")} | {
        "AIMLE_DATABASE_URL": mongo_url,
        "AIMLE_DATABASE_NAME": database.db.name,
        "AIMLE_AUTH_INSECURE_NO_AUTH": "true",
        "AIMLE_HFL_LEASE": "0.5",
        "AIMLE_OUTBOX_TIMEOUT": "0.5",  # a dead process keeps its streams for three times as long
    }
    running = Process(tmp_path, environment, unused_tcp_port)
    await running.start()
    yield running
    await running.kill()


async def test_a_server_that_is_killed(process: Process) -> None:
    """After kill -9 in the middle of a round and a new start, nothing of the committed rounds is lost."""
    async with held_in_round_three(process.url) as held:
        await process.kill()
        await process.start()
        async with ValServer(process.url) as val:
            await held.goes_on(val)


MEGABYTE = 2**20
MODEL = 40 * MEGABYTE


async def test_memory_does_not_grow_with_the_clients(process: Process, tmp_path: Path) -> None:
    """A round of eight clients with 40 MiB each takes the memory of the uploads in flight, not of the models."""
    path = tmp_path / "model.safetensors"
    save_file({"w": np.ones(MODEL // 4, np.float32)}, path)
    names = [f"ue-{number}" for number in range(8)]
    async with (
        ValServer(process.url, listen=("127.0.0.1", 0)) as val,
        participants(process.url, *names) as found,
    ):
        await val.store_model("large", path, services=[SERVICE])
        before = process.forget_peak()
        training = await val.train(
            model_id="large", members=names, dataset_ids=["digits"], objective=Objective(max_epochs=1)
        )
        await all_asked(found)
        for client in found:
            assert await _download(client) > MODEL
            with path.open("rb") as file:
                await client.participate(file)  # type: ignore[arg-type]
        await all_asked(found, 2)
        for client in found:
            assert await client.notify() == 204
        assert (await events_of(training))[-1].state == "COMPLETED"
    growth = process.peak - before
    print(f"memory grew by {growth / MEGABYTE:.0f} MiB")
    assert growth < MODEL


async def _download(client: Participant) -> int:
    """How many bytes the round's model has, received and not kept."""
    total = 0
    async with client.session.get(client.model_url) as response:
        async for chunk in response.content.iter_chunked(MEGABYTE):
            total += len(chunk)
    return total

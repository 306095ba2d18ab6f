"""Several processes on one database: a training is driven by one of them and reached through any."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from aimle_client.http import RetryPolicy
from aimle_client.val import Objective, TrainingProfile, ValServer, discovery_criteria, member_criteria
from ml_repository.database import Database
from ml_repository.subscriptions import Positions
from tests.support import eventually
from tests.support_participant import participants
from tests.support_training import Pull, begin, events_of, fedavg, hears_nothing_more, ue

pytestmark = pytest.mark.faults

ROUNDS = 4
PATIENT = RetryPolicy(attempts=8, first=0.2)


@contextlib.asynccontextmanager
async def server(folder: Path, url: str, database: Database, *flags: str) -> AsyncIterator[tuple[str, int]]:
    """`aimle-server run` with these flags on the tests' database; its URL and process id."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIMLE_")}
    environment = clean | {
        "AIMLE_DATABASE_URL": url,
        "AIMLE_DATABASE_NAME": database.db.name,
        "AIMLE_AUTH_INSECURE_NO_AUTH": "true",
        "AIMLE_HFL_LEASE": "1",
        "AIMLE_OUTBOX_TIMEOUT": "0.5",
        "AIMLE_SERVER_PORT": "0",
        "AIMLE_SERVER_LOG_LEVEL": "WARNING",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aimle_server", "run", "--data-dir", str(folder / "data"), *flags),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        assert "ready at " in line
        yield line.split()[-1], process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def clients(url: str, trainers: Mapping[str, Pull]) -> AsyncIterator[list[object]]:
    """AIMLE clients with these trainers, registered at this server."""
    async with AsyncExitStack() as stack:
        for trainer in trainers.values():
            stack.callback(trainer.gate.set)
        yield [
            await stack.enter_async_context(ue(url, name, trainer, retry=PATIENT))
            for name, trainer in trainers.items()
        ]


def two_trainers() -> dict[str, Pull]:
    """Two clients of different weight."""
    return {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}


async def trained_as_alone(val: ValServer, trainers: Mapping[str, Pull], model_id: str | None) -> None:
    """The result is the one of a single, undisturbed server."""
    assert model_id is not None
    result = await val.download_model(model_id)
    expected = fedavg(trainers, ROUNDS, learningRate=0.5)[-1]
    np.testing.assert_allclose(result["w"], expected, atol=1e-5)


async def test_any_worker_answers_for_the_one_that_drives(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """With four workers, connections land anywhere, and every round still gets both updates."""
    trainers = two_trainers()
    async with (
        server(tmp_path, mongo_url, database, "--server-workers", "4") as (url, _),
        clients(url, trainers),
        ValServer(url, listen=("127.0.0.1", 0)) as val,
    ):
        training = await begin(
            val,
            members=list(trainers),
            objective=Objective(max_epochs=ROUNDS),
            profile=TrainingProfile(learning_rate=0.5, min_reports=1.0),
        )
        events = await events_of(training)
        assert (events[-1].state, events[-1].evaluated_round) == ("COMPLETED", ROUNDS)
        status = await training.status()
        assert [record.participants for record in status.history] == [2] * ROUNDS
        await trained_as_alone(val, trainers, events[-1].output_model_id)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_second_server_takes_over(
    tmp_path: Path, mongo_url: str, database: Database, how: signal.Signals
) -> None:
    """Two servers on two ports: when one stops or is killed, the other goes on with its trainings."""
    trainers = two_trainers()
    async with AsyncExitStack() as stack:
        first, pid = await stack.enter_async_context(server(tmp_path / "1", mongo_url, database))
        second, _ = await stack.enter_async_context(server(tmp_path / "2", mongo_url, database))
        found = await stack.enter_async_context(clients(second, trainers))
        asking = await stack.enter_async_context(ValServer(first, listen=("127.0.0.1", 0), retry=PATIENT))
        val = await stack.enter_async_context(ValServer(second))
        trainers["ue-1"].gate.clear()
        training = await begin(
            asking,
            members=list(trainers),
            objective=Objective(max_epochs=ROUNDS),
            profile=TrainingProfile(learning_rate=0.5, min_reports=1.0),
        )
        await eventually(lambda: trainers["ue-1"].fitting.is_set())
        os.kill(pid, how)
        trainers["ue-1"].gate.set()
        status = await asyncio.wait_for(val.training(training.id).wait(0.1), 30)
        assert (status.state, status.round) == ("COMPLETED", ROUNDS)
        await trained_as_alone(val, trainers, status.output_model_id)
        await eventually(lambda: hears_nothing_more({str(i): client for i, client in enumerate(found)}))  # type: ignore[arg-type,misc]


async def test_stop_reaches_the_server_that_drives(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """A VAL server may cancel at any server, whichever drives its training."""
    trainers = two_trainers()
    async with (
        server(tmp_path / "1", mongo_url, database) as (first, _),
        server(tmp_path / "2", mongo_url, database) as (second, _),
        clients(first, trainers),
        ValServer(first) as here,
        ValServer(second) as there,
    ):
        trainers["ue-1"].gate.clear()
        training = await begin(here, members=list(trainers), objective=Objective(max_epochs=ROUNDS))
        await eventually(lambda: trainers["ue-1"].fitting.is_set())
        await there.training(training.id).cancel()
        assert (await training.wait(0.05)).state == "CANCELLED"


async def test_a_member_that_leaves_at_another_server(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """One server follows what clients do, another drives the training: it replaces the member while the round runs."""
    async with AsyncExitStack() as stack:
        follows, _ = await stack.enter_async_context(server(tmp_path / "1", mongo_url, database))
        watcher = await stack.enter_async_context(ValServer(follows, listen=("127.0.0.1", 0)))
        await watcher.subscribe_selection(discovery_criteria("another service"))
        await eventually(lambda: Positions(database).seen("registrations"))
        drives, _ = await stack.enter_async_context(server(tmp_path / "2", mongo_url, database))
        val = await stack.enter_async_context(ValServer(drives))
        [leaving] = await stack.enter_async_context(participants(follows, "ue-1"))
        training = await begin(val, criteria=member_criteria(), num_clients=1, objective=Objective())
        await leaving.asked()
        [coming] = await stack.enter_async_context(participants(follows, "ue-2"))
        await leaving.deregister()
        await eventually(lambda: coming.asked_to == ["JOIN"])
        assert (await training.status()).state == "ROUND_RUNNING"
        await training.cancel()
        await eventually(lambda: coming.asked_to == ["JOIN", "DEPART"])

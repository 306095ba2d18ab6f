"""The database goes away in the middle of the work: trainings, uploads, notifications and cleaning up go on."""

import asyncio
import io
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from aimle_client.http import RetryPolicy
from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from aimle_server.hfl.folders import Folders
from aimle_server.janitor import INTERVAL, Janitor
from ml_repository.database import connect
from ml_repository.outbox import Message, Outbox
from ml_repository.repository import Repository
from tests.support import Listener, ManualClock, eventually
from tests.support_away import (
    SETTINGS,
    STORAGES,
    WAYS,
    Answered,
    Caller,
    DatabaseProcess,
    database_process,
    serving,
)
from tests.support_clients import reg_info, stored
from tests.support_models import PUBLIC, profile, safetensors, storage
from tests.support_training import Pull, begin, events_of, fedavg, ue

pytestmark = pytest.mark.faults

PATIENT = RetryPolicy(attempts=30, first=0.5, longest=6)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[DatabaseProcess]:
    """A database that does not run yet."""
    with database_process(tmp_path) as process:
        yield process


@WAYS
async def test_a_training_goes_on(database: DatabaseProcess, way: signal.Signals) -> None:
    """Away in the middle of a round and back again: no update is lost, and the result is that of any other day."""
    await database.start()
    trainers = two_trainers()
    async with serving(database) as server, a_training(server, trainers) as (val, training):
        await eventually(trainers["ue-1"].fitting.is_set)
        await database.take_away(way)
        await server.not_ready()
        trainers["ue-1"].gate.set()
        await asyncio.sleep(8)
        await database.give_back()
        await ended_well(val, training, trainers)


async def test_a_training_outlives_a_long_absence(database: DatabaseProcess) -> None:
    """Half a minute, ten times as long as its lease lasts, changes nothing."""
    await database.start()
    trainers = two_trainers()
    async with serving(database) as server, a_training(server, trainers) as (val, training):
        await eventually(trainers["ue-1"].fitting.is_set)
        await database.take_away(signal.SIGKILL)
        trainers["ue-1"].gate.set()
        await asyncio.sleep(30)
        await database.start()
        await ended_well(val, training, trainers)


async def test_a_training_survives_many_absences(database: DatabaseProcess) -> None:
    """Whatever it is doing when the database is killed, again and again, it does once more."""
    await database.start()
    trainers = two_trainers()
    async with serving(database) as server, a_training(server, trainers) as (val, training):
        trainers["ue-1"].gate.set()
        for pause in (0.05, 0.3, 0.1, 0.2, 0.4):
            await asyncio.sleep(pause)
            await database.take_away(signal.SIGKILL)
            await asyncio.sleep(1)
            await database.start()
        await ended_well(val, training, trainers)


ROUNDS = 12


def two_trainers() -> dict[str, Pull]:
    """Two clients that do not agree; the first waits for its gate."""
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}
    trainers["ue-1"].gate.clear()
    return trainers


@asynccontextmanager
async def a_training(server: Caller, trainers: dict[str, Pull]) -> AsyncIterator[tuple[ValServer, Training]]:
    """A training that has begun, with these clients."""
    async with AsyncExitStack() as stack:
        val = await stack.enter_async_context(ValServer(server.url, listen=("127.0.0.1", 0), retry=PATIENT))
        for name, trainer in trainers.items():
            stack.callback(trainer.gate.set)
            await stack.enter_async_context(ue(server.url, name, trainer, retry=PATIENT))
        yield (
            val,
            await begin(
                val,
                members=list(trainers),
                objective=Objective(max_epochs=ROUNDS),
                profile=TrainingProfile(learning_rate=0.5, seed=3, min_reports=1.0),
            ),
        )


async def ended_well(val: ValServer, training: Training, trainers: dict[str, Pull]) -> None:
    """The training ends by itself, its VAL server hears of it, and the result is as without any absence."""
    async with asyncio.timeout(45):
        events = await events_of(training)
    assert (events[-1].state, events[-1].evaluated_round) == ("COMPLETED", ROUNDS)
    status = await training.status()
    assert [record.participants for record in status.history] == [2] * ROUNDS
    model = events[-1].output_model_id
    assert model is not None
    expected = fedavg(trainers, ROUNDS, learningRate=0.5, seed=3)[-1]
    np.testing.assert_allclose((await val.download_model(model))["w"], expected, atol=1e-5)


MODEL = safetensors(400_000)
FILE = "/aimle-artifacts/v1/models/m"


@WAYS
async def test_an_upload_is_resumed(database: DatabaseProcess, way: signal.Signals) -> None:
    """The first half came before the database went: while it is away 503, afterwards the second half is enough."""
    await database.start()
    async with serving(database) as server:
        await store(server)
        half = len(MODEL) // 2
        assert (await put(server, 0, half)).status == 204
        await database.take_away(way)
        await server.not_ready()
        refused = await put(server, half, len(MODEL))
        refused.check()
        assert refused.status == 503
        await asyncio.sleep(5)
        await database.give_back()
        await server.ready()
        state = await server.call("HEAD", FILE)
        assert (state.status, state.headers["Upload-Offset"]) == (200, str(half))
        assert (await put(server, half, len(MODEL))).status == 204
        assert (await server.call("GET", FILE)).body == MODEL


@WAYS
async def test_an_upload_is_completed_by_the_client(database: DatabaseProcess, way: signal.Signals) -> None:
    """The database goes while the bytes come and is back later: the client's upload ends well by itself."""
    await database.start()
    async with serving(database) as server:
        await store(server)
        flowing, go_on = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield MODEL[:1000]
            flowing.set()
            await go_on.wait()
            yield MODEL[1000:]

        upload = asyncio.create_task(server.call("PUT", FILE, data=body()))
        await flowing.wait()
        await database.take_away(way)
        await server.not_ready()
        go_on.set()
        answer = await upload
        assert answer.status == 503, answer
        assert int(answer.headers["Retry-After"]) > 0
        async with ValServer(server.url, retry=PATIENT) as val:
            again = asyncio.create_task(val.upload_model("m", {"w": np.arange(100_000, dtype=np.float32)}))
            await asyncio.sleep(3)
            await database.give_back()
            await asyncio.wait_for(again, 30)
            assert (await val.download_model("m"))["w"][-1] == 99_999


@WAYS
async def test_notifications_arrive(database: DatabaseProcess, way: signal.Signals) -> None:
    """What was enqueued before is delivered after, in order, without a restart."""
    await database.start()
    async with serving(database) as server, Listener(default=503) as target:
        connection = await connect(database.url, SETTINGS["database.name"])
        outbox = Outbox(connection)
        await outbox.enqueue([Message("s", number, target.url(), {"n": number}) for number in range(5)])
        await eventually(lambda: target.received)
        await database.take_away(way)
        await server.not_ready()
        await asyncio.sleep(5)
        target.default = 204
        before = len(target.received)
        await database.give_back()
        await eventually(lambda: {"n": 4} in target.bodies, 30)
        after = [body["n"] for body in target.bodies[before:]]
        assert list(dict.fromkeys(after)) == [0, 1, 2, 3, 4]
        await connection.close()


async def test_cleaning_up_goes_on(database: DatabaseProcess, tmp_path: Path) -> None:
    """The janitor misses what it cannot do and does it the next time."""
    await database.start()
    clock = ManualClock()
    connection = await connect(database.url, "aimle")
    repository = await Repository.open(connection, clock, lambda: "id")
    registrations = connection["registrations"]
    await registrations.insert_one(
        {**stored(reg_info()), "_expires": clock.now() + timedelta(seconds=INTERVAL)}
    )
    janitor = Janitor(repository, [], Folders(tmp_path), clock, lease=1.0)
    await janitor.start()
    await asyncio.sleep(0.5)
    await database.take_away(signal.SIGKILL)
    clock.advance(INTERVAL + 1)
    await asyncio.sleep(4)
    await database.give_back()
    assert await registrations.count_documents({}) == 1

    async def cleaned() -> bool:
        clock.advance(INTERVAL)
        return await registrations.count_documents({}) == 0

    await eventually(cleaned, 20)
    await janitor.stop()
    await connection.close()


async def store(server: Caller) -> None:
    """A model without bytes."""
    answer = await server.call("POST", STORAGES, json=storage(profile("m", storeDiscReqs=PUBLIC)))
    assert answer.status == 201, answer


async def put(server: Caller, begin: int, end: int) -> Answered:
    """A part of the model's file."""
    content_range = {"Content-Range": f"bytes {begin}-{end - 1}/{len(MODEL)}"}
    return await server.call("PUT", FILE, data=io.BytesIO(MODEL[begin:end]), headers=content_range)

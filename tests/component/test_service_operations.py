"""AIML service operations at real clients (TS 23.482 8.20): tasks of the VAL server's own, and trainings."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aimle_client.errors import Conflict, NotFound, RequestRefused, ServerUnavailable
from aimle_client.http import RetryPolicy
from aimle_client.testing import RunningServer
from aimle_client.val import Objective, OperationInfo, StopWhen, TrainingProfile, ValServer
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support import eventually
from tests.support_participant import participants
from tests.support_training import Pull, begin, hears_nothing_more, reached, serving, ue, ues, val_server
from tests.support_val import PARAMETERS
from tests.support_val import serving as serving_with_tokens
from tests.support_val import val_server as known_val_server

INFO = OperationInfo("docker://model", "http://val.example/model", "http://val.example/updates", 60)
ONCE = RetryPolicy(attempts=1)


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server that takes every request."""
    async with serving(mongo_url, database) as running:
        yield running


async def test_a_task_is_handed_to_every_client(server: RunningServer) -> None:
    """START gives each client the addresses and limits, under the names and in the units of its own API."""
    async with val_server(server) as val, participants(server.url, "ue-1", "ue-2") as clients:
        at = Clock().now() + timedelta(hours=2, minutes=30)
        stop = [StopWhen(accuracy=99, at=at, latency=40)]
        started = await val.start_operation(
            clients=["ue-1", "ue-2"], info=INFO, stop_when=stop, service="svc"
        )
        assert started.mode == "START"
        for client in clients:
            assert client.operations == [
                {
                    "aimleServerId": "aimle-server",
                    "valServiceId": "svc",
                    "servOpId": started.task_id,
                    "servOpMode": "START",
                    "servOpInfo": {
                        "mlMdlContainer": "docker://model",
                        "mlMdlUri": "http://val.example/model",
                        "mlMdAggregUri": "http://val.example/updates",
                        "maxConvgTime": 60,
                    },
                    "servOpModeCfg": {"maxLatency": 40, "maxDurHour": 3, "modelAccuracy": 99},
                }
            ]


async def test_a_task_starts_everywhere_or_nowhere(server: RunningServer) -> None:
    """Where one client cannot be reached, the others are stopped again, and the error names it."""
    async with (
        ValServer(server.url, retry=ONCE) as val,
        participants(server.url, "ue-1") as (there,),
        ue(server.url, "ue-2", Pull(1.0), public_url="http://127.0.0.1:9") as gone,
    ):
        assert gone.status.uri.endswith(":9")
        with pytest.raises(ServerUnavailable):
            await val.start_operation(clients=["ue-1", "ue-2"], info=INFO)
        assert [body["servOpMode"] for body in there.operations] == ["START", "STOP"]


async def test_stop_may_be_repeated(server: RunningServer) -> None:
    """STOP of a task succeeds again, and where a client is not reachable any more."""
    async with ValServer(server.url) as val, participants(server.url, "ue-1") as (client,):
        started = await val.start_operation(clients=["ue-1"], info=INFO, task_id="task-1")
        assert started.task_id == "task-1"
        for _ in range(2):
            stopped = await val.stop_operation(clients=["ue-1"], task_id="task-1")
            assert (stopped.mode, stopped.task_id) == ("STOP", "task-1")
        assert [body["servOpMode"] for body in client.operations] == ["START", "STOP", "STOP"]


async def test_wrong_requests(server: RunningServer) -> None:
    """What cannot be started or stopped is refused by name."""
    async with ValServer(server.url) as val, ues(server, {"ue-1": Pull(1.0)}):
        with pytest.raises(RequestRefused, match="/operId"):
            await val.stop_operation(clients=["ue-1"])
        with pytest.raises(RequestRefused, match="/clients/1"):
            await val.start_operation(clients=["ue-1", "nobody"], info=INFO)
        with pytest.raises(NotFound, match="CLIENT_SET_NOT_FOUND"):
            await val.start_operation(client_set="nope", info=INFO)
        with pytest.raises(NotFound, match="TRAINING_NOT_FOUND"):
            await val.stop_operation(clients=["ue-1"], training_id="nope")


async def test_another_owners_training(mongo_url: str, database: Database) -> None:
    """A training is its owner's to stop: for others there is none."""
    async with (
        serving_with_tokens(mongo_url, database) as running,
        known_val_server(running) as mine,
        known_val_server(running, "val-2") as other,
    ):
        await mine.store_model("digits", PARAMETERS)
        training = await mine.train(model_id="digits", members=["ue-1"], dataset_ids=["digits"])
        with pytest.raises(NotFound, match="TRAINING_NOT_FOUND"):
            await other.stop_operation(clients=["ue-1"], training_id=training.id)


@contextlib.asynccontextmanager
async def held(server: RunningServer) -> AsyncIterator[tuple[Any, ValServer, dict[str, Pull], Any]]:
    """A training of three clients, the first of which waits in its first round."""
    trainers = {name: Pull(1.0) for name in ("ue-1", "ue-2", "ue-3")}
    trainers["ue-1"].gate.clear()
    async with val_server(server) as val, ues(server, trainers) as clients:
        profile = TrainingProfile(learning_rate=0.1, min_reports=1.0)
        training = await begin(
            val, members=list(trainers), objective=Objective(max_epochs=200), profile=profile
        )
        await eventually(lambda: trainers["ue-1"].fitting.is_set())
        yield training, val, trainers, clients


async def test_stop_at_some_clients(server: RunningServer) -> None:
    """The others go on without them; START lets one take part again, until all are stopped."""
    async with held(server) as (training, val, trainers, clients):
        await val.stop_operation(clients=["ue-1"], training_id=training.id)
        await reached(training, "SELECTING", "ROUND_RUNNING", rounds=2)
        assert {p.client_id for p in (await training.status()).participants} == {"ue-2", "ue-3"}
        assert not clients["ue-1"].status.subscriptions
        trainers["ue-1"].gate.set()
        await val.start_operation(clients=["ue-1"], training_id=training.id)
        await eventually(lambda: len(trainers["ue-1"].configs) > 1)
        await val.stop_operation(clients=list(trainers), training_id=training.id)
        status = await training.wait(0.05)
        assert (status.state, status.reason) == ("CANCELLED", "the VAL server stopped the operation")
        await eventually(lambda: hears_nothing_more(clients))
        with pytest.raises(Conflict, match="TRAINING_ENDED"):
            await val.start_operation(clients=["ue-1"], training_id=training.id)
        assert (await val.stop_operation(clients=["ue-1"], training_id=training.id)).mode == "STOP"


async def test_a_condition_stops_a_training(server: RunningServer) -> None:
    """An accuracy named with START ends the training as soon as it is reached, with a result."""
    async with held(server) as (training, val, trainers, _):
        condition = [StopWhen(accuracy=60)]
        await val.start_operation(clients=["ue-1"], training_id=training.id, stop_when=condition)
        trainers["ue-1"].gate.set()
        status = await training.wait(0.05)
        assert status.state == "COMPLETED"
        assert status.reason == "a stop condition of the operation is met"
        assert 0.6 <= status.history[-1].metrics["accuracy"] < 0.75

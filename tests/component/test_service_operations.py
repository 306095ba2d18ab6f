"""AIML service operations at real clients (TS 23.482 8.20): tasks of the VAL server's own, and trainings."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from aimle_client.errors import Conflict, NotFound, RequestRefused, ServerUnavailable
from aimle_client.http import RetryPolicy
from aimle_client.testing import RunningServer
from aimle_client.val import (
    Objective,
    OperationInfo,
    StopWhen,
    TrainingProfile,
    ValServer,
    discovery_criteria,
)
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support import Listener, eventually
from tests.support_participant import participants
from tests.support_training import (
    SERVICE,
    Pull,
    begin,
    hears_nothing_more,
    reached,
    serving,
    ue,
    ues,
    val_server,
)
from tests.support_val import PARAMETERS
from tests.support_val import serving as serving_with_tokens
from tests.support_val import ues as known_ues
from tests.support_val import val_server as known_val_server

INFO = OperationInfo("docker://model", "http://val.example/model", "http://val.example/updates", 60)
ONCE = RetryPolicy(attempts=1)
WHOM: dict[str, Any] = {"clients": ["ue-1"]}
TASK: dict[str, Any] = {"operId": {"taskId": "task-1"}}


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server that takes every request."""
    async with serving(mongo_url, database) as running:
        yield running


async def post(server: RunningServer, body: dict[str, Any]) -> tuple[int, Any]:
    """A request as it is: status and body of the answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/aimles-opm/v1/request", json=body) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_task_is_handed_to_every_client(server: RunningServer) -> None:
    """START gives each client the addresses and limits, under the names and in the units of its own API."""
    async with val_server(server) as val, participants(server.url, "ue-1", "ue-2") as clients:
        at = Clock().now() + timedelta(hours=2, minutes=30)
        stop = [StopWhen(accuracy=99, at=at, latency=40)]
        started = await val.start_operation(
            clients=["ue-1", "ue-2"], info=INFO, stop_when=stop, service="svc"
        )
        assert started.mode == "START"
        [operation_id] = {client.operations[0]["servOpId"] for client in clients}
        assert operation_id.startswith(f"{started.task_id}.")
        for client in clients:
            assert client.operations == [
                {
                    "aimleServerId": "aimle-server",
                    "valServiceId": "svc",
                    "servOpId": operation_id,
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


async def test_a_client_that_fails_may_have_started(server: RunningServer) -> None:
    """A client that answers START with an error is named, and stopped as well: perhaps it did start."""
    start = {"operMode": "START", **WHOM, **TASK}
    async with (
        Listener([500], default=200) as failing,
        ue(server.url, "ue-1", Pull(1.0), public_url=failing.url("")),
    ):
        status, problem = await post(server, start)
        assert (status, problem["detail"]) == (503, "not started, these clients did not: ue-1")
        assert [body["servOpMode"] for body in failing.bodies] == ["START", "STOP"]


async def test_a_client_that_is_away(server: RunningServer) -> None:
    """Nothing is started at a client outside its hours, but what runs there is stopped."""
    async with ValServer(server.url) as val, participants(server.url, "ue-1") as (client,):
        await val.start_operation(clients=["ue-1"], info=INFO, task_id="task-1")
        always = {"timeOfDayStart": "00:00:00", "timeOfDayEnd": "00:00:00"}
        await client.register(unavblTimeSchedCfgs=[always])
        with pytest.raises(RequestRefused, match="/clients/0"):
            await val.start_operation(clients=["ue-1"], info=INFO, task_id="task-2")
        await val.stop_operation(clients=["ue-1"], task_id="task-1")
        assert [body["servOpMode"] for body in client.operations] == ["START", "STOP"]
        assert client.operations[0]["servOpId"] == client.operations[1]["servOpId"]


async def test_a_client_that_left(server: RunningServer) -> None:
    """STOP does not mind clients that are not registered any more; START names them, or the set they are in."""
    async with ValServer(server.url) as val, participants(server.url, "ue-1", "ue-2") as (gone, there):
        chosen = await val.select(discovery_criteria(SERVICE, datasets=["digits"]), req_num=2, min_num=2)
        await val.start_operation(client_set=chosen.client_set, info=INFO, task_id="task-1")
        await gone.deregister()
        with pytest.raises(RequestRefused, match="/setId: ue-1"):
            await val.start_operation(client_set=chosen.client_set, info=INFO, task_id="task-1")
        await val.stop_operation(client_set=chosen.client_set, task_id="task-1")
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


@pytest.mark.parametrize(
    ("body", "params"),
    [
        ({"operMode": "PAUSE", **WHOM, **TASK}, {"/operMode"}),
        ({"operMode": "STOP", **WHOM}, {"/operId"}),
        ({"operMode": "STOP", **TASK}, {"/clients", "/setId"}),
        ({"operMode": "STOP", **WHOM, "setId": "s", **TASK}, {"/clients", "/setId"}),
        (
            {"operMode": "STOP", **WHOM, "operId": {"taskId": "a", "trainingId": "b"}},
            {"/operId/trainingId", "/operId/taskId"},
        ),
    ],
    ids=[
        "neither START nor STOP",
        "STOP of what?",
        "STOP where?",
        "both clients and a set",
        "two operations",
    ],
)
async def test_contradictions(server: RunningServer, body: dict[str, Any], params: set[str]) -> None:
    """A request that leaves open what is meant is refused, and each attribute that could say it is named."""
    status, problem = await post(server, body)
    assert (status, {wrong["param"] for wrong in problem["invalidParams"]}) == (400, params)


async def test_features(server: RunningServer) -> None:
    """Whoever asks for features is told that there are none; nobody else is told of features."""
    stop = {"operMode": "STOP", **WHOM, **TASK, "valSvcId": "svc"}
    expected = {"operMode": "STOP", **TASK, "valSvcId": "svc"}
    assert await post(server, stop) == (200, expected)
    assert await post(server, stop | {"suppFeat": "1"}) == (200, expected | {"suppFeat": "0"})


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


async def test_another_owners_task(mongo_url: str, database: Database) -> None:
    """Whoever guesses a task's name stops nothing with it, be it a task's or a training's."""
    async with (
        serving_with_tokens(mongo_url, database) as running,
        known_val_server(running) as mine,
        known_val_server(running, "val-2") as other,
        known_ues(running, "ue-1") as [client],
    ):
        await mine.start_operation(clients=["ue-1"], info=INFO, task_id="task-1")
        started = client.status.operations
        assert len(started) == 1
        for guess in ("task-1", started[0]):
            await other.stop_operation(clients=["ue-1"], task_id=guess)
            assert client.status.operations == started
        await mine.stop_operation(clients=["ue-1"], task_id="task-1")
        assert client.status.operations == ()


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


async def test_conditions_last(server: RunningServer) -> None:
    """START without conditions, as for a client that is to take part again, leaves those that were named."""
    async with held(server) as (training, val, trainers, _):
        await val.start_operation(
            clients=["ue-1"], training_id=training.id, stop_when=[StopWhen(accuracy=60)]
        )
        await val.start_operation(clients=["ue-1"], training_id=training.id)
        trainers["ue-1"].gate.set()
        status = await training.wait(0.05)
    assert (status.state, status.reason) == ("COMPLETED", "a stop condition of the operation is met")


async def test_a_moment_stops_a_training(server: RunningServer) -> None:
    """A time named with START ends the training with the first round that closes after it."""
    async with held(server) as (training, val, trainers, _):
        condition = [StopWhen(at=Clock().now())]
        await val.start_operation(clients=["ue-1"], training_id=training.id, stop_when=condition)
        trainers["ue-1"].gate.set()
        status = await training.wait(0.05)
    assert (status.state, status.round) == ("COMPLETED", 0)
    assert status.reason == "a stop condition of the operation is met"

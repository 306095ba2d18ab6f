"""An AIMLE client that is asked to go on with another one's task, and whether tokens open that (TS 23.482 8.6)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimle_client.policy import DefaultPolicy
from aimle_client.ue import AimleClient
from aimle_client.val import Objective
from ml_repository.database import Database
from sbi.clock import to_wire
from tests.support import ManualClock
from tests.support_task_transfer import PROFILE, START, Walk, stepped, undisturbed
from tests.support_training import events_of
from tests.support_ue import Adder, MiniServer
from tests.support_val import serving, ues, val_server

REQUEST = "/aimlec-task-transfer/v1/request"
DIRECT = "/aimlec-task-transfer/v1/request-direct"
STATE = "/aimle-task-states/v1/states/transfer-1"
SOURCE = {"valUeId": "ue-1"}


@pytest.fixture
def clock() -> ManualClock:
    """The time of both sides."""
    return ManualClock()


@pytest.fixture
async def server(clock: ManualClock, tmp_path: Path) -> AsyncIterator[MiniServer]:
    """The AIMLE server."""
    async with MiniServer(tmp_path, clock) as running:
        yield running


@pytest.fixture
def policy() -> DefaultPolicy:
    """The client's policy."""
    return DefaultPolicy(frozenset({"digits"}), frozenset({"val-vision"}))


@pytest.fixture
async def client(server: MiniServer, policy: DefaultPolicy) -> AsyncIterator[AimleClient]:
    """A registered client that can go on with trainings on `digits`."""
    async with server.client(Walk(), policy=policy) as running:  # type: ignore[arg-type]
        yield running


class Asked:
    """Calls of the client with a task of `ue-1`."""

    def __init__(self, server: MiniServer, client: AimleClient, clock: ManualClock) -> None:
        self.server, self.client, self.clock = server, client, clock

    async def task(self, path: str, **changes: Any) -> tuple[int, Any]:
        """Status and body of the answer to one of the two requests."""
        now = self.clock.now()
        window = {"startTime": to_wire(now), "stopTime": to_wire(now + timedelta(minutes=5))}
        own = (
            {"requestorId": SOURCE} if path == DIRECT else {"requestorId": "server-1", "sourceAimlId": SOURCE}
        )
        body = own | {
            "aimlTaskType": "MODEL_TRAINING",
            "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
            "aimlTaskTransferTime": window,
            "aimle": {"transferId": "transfer-1", "datasetId": "digits"},
        }
        body = {name: value for name, value in (body | changes).items() if value is not None}
        token, _ = self.server.issuer.issue("somebody", ("aimlec-task-transfer",))
        status, answer, _ = await self.server.call(self.client, "POST", path, body, token=token)
        return status, answer

    async def state(self, content: bytes) -> int:
        """Status of the answer to a state."""
        async with self.server.session.put(self.client.status.uri + STATE, data=content) as answer:
            return answer.status


@pytest.fixture
def asked(server: MiniServer, client: AimleClient, clock: ManualClock) -> Asked:
    """The caller."""
    return Asked(server, client, clock)


def state(samples: int = 40) -> bytes:
    """The beginning of a walk on so many samples."""
    fit = Walk(samples).begin({"w": START}, {}).save_state()
    return b"".join(map(bytes, fit.dump({"aimle.training": "t-1", "aimle.round": "1"})))


async def test_a_task_is_agreed_on_in_two_steps(asked: Asked) -> None:
    """The server's request is agreed to, then the source's; then the state is taken, and only then."""
    assert await asked.state(state()) == 404
    status, answer = await asked.task(REQUEST)
    assert (status, answer["aimle"]) == (200, {"direct": True})
    assert await asked.state(state()) == 404
    assert await asked.task(DIRECT) == (204, None)
    assert await asked.state(state()) == 204


@pytest.mark.parametrize(
    "changes",
    [
        {"aimlTaskType": "MODEL_INFERENCE"},
        {"aimle": {"transferId": "transfer-1", "datasetId": "others"}},
        {"aimlTaskTransferTime": {"startTime": "2029-01-01T00:00:00Z", "stopTime": "2029-01-02T00:00:00Z"}},
    ],
    ids=["operation", "data set", "time"],
)
async def test_a_task_that_this_client_cannot_go_on_with(asked: Asked, changes: dict[str, Any]) -> None:
    """Another operation, a data set that is not here, a time that is over: 403 with a cause."""
    status, answer = await asked.task(REQUEST, **changes)
    assert (status, answer["cause"]) == (403, "TASK_REFUSED")
    assert (await asked.task(DIRECT))[0] == 403


async def test_the_policy_is_asked_each_time(asked: Asked, policy: DefaultPolicy) -> None:
    """What was agreed to with the server may be refused to the source, when things have changed."""
    assert (await asked.task(REQUEST))[0] == 200
    policy.paused = True
    status, answer = await asked.task(DIRECT)
    assert (status, answer["cause"]) == (403, "TASK_REFUSED")
    assert (await asked.task(REQUEST))[0] == 403
    assert await asked.state(state()) == 404


async def test_somebody_elses_transfer(asked: Asked) -> None:
    """Only the source that the server has named may bring its task."""
    await asked.task(REQUEST)
    assert (await asked.task(DIRECT, requestorId={"valUeId": "ue-9"}))[0] == 403
    assert (await asked.task(DIRECT, aimle={"transferId": "another"}))[0] == 403


async def test_an_agreement_ends(asked: Asked, clock: ManualClock) -> None:
    """After its window nothing comes of it."""
    await asked.task(REQUEST)
    assert (await asked.task(DIRECT))[0] == 204
    clock.advance(301)
    assert await asked.state(state()) == 404


async def test_a_plain_request(asked: Asked) -> None:
    """Whoever knows the standard only is answered as the standard says."""
    assert (await asked.task(REQUEST, aimle=None))[0] == 200
    assert (await asked.task(DIRECT, aimle=None))[0] == 204


@pytest.mark.parametrize("content", [b"", b"nonsense", state(8), state()[:-1]])
async def test_a_state_that_cannot_be_loaded(asked: Asked, content: bytes) -> None:
    """It is refused while the source still has the task: 400."""
    await asked.task(REQUEST)
    await asked.task(DIRECT)
    assert await asked.state(content) == 400


async def test_a_trainer_that_cannot_stop(server: MiniServer, clock: ManualClock) -> None:
    """A client whose trainer is not resumable takes no task."""
    async with server.client(Adder()) as plain:
        status, answer = await Asked(server, plain, clock).task(REQUEST)
        assert (status, answer["cause"]) == (403, "TASK_REFUSED")


async def test_tokens_open_every_step(mongo_url: str, database: Database) -> None:
    """With authentication on all sides a task goes directly from one device to the other."""
    source, target = Walk(), Walk()
    async with (
        serving(mongo_url, database) as running,
        ues(running, "ue-1", trainer=source) as [client],
        ues(running, "ue-2", trainer=target),
        val_server(running) as val,
    ):
        try:
            await val.store_model("digits", {"w": START}, services=["val-vision"])
            training = await val.train(
                model_id="digits",
                members=["ue-1"],
                dataset_ids=["digits"],
                objective=Objective(max_epochs=100),
                profile=PROFILE,
            )
            await stepped(source)
            async with asyncio.timeout(20):
                done = await client.transfer()
            assert (done.target, done.mode) == ("ue-2", "DIRECT")
        finally:
            source.hurry.set()
            target.hurry.set()
        last = (await events_of(training))[-1]
        model = await val.download_model(str(last.output_model_id))
        np.testing.assert_array_equal(model["w"], undisturbed())

"""Tasks that move from one AIMLE client to another in the middle of a round (TS 23.482 8.6)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from aimle_client.errors import NothingToTransfer
from aimle_client.policy import DefaultPolicy
from aimle_client.runtime.report import Outcome, RoundReport
from aimle_client.runtime.task import Task
from aimle_client.testing import RunningServer
from aimle_client.val import Objective, ValServer, member_criteria
from ml_repository.database import Database
from tests.support import ManualClock, eventually
from tests.support_participant import participants, update
from tests.support_task_transfer import (
    PROFILE,
    STEPS,
    WINDOW,
    Walk,
    model_of,
    moves_of,
    owner_of,
    state,
    stepped,
    undisturbed,
    walkers,
    walking,
)
from tests.support_training import begin, events_of, serving, val_server


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server on an empty database."""
    async with serving(mongo_url, database) as running:
        yield running


@pytest.fixture
async def val(server: RunningServer) -> AsyncIterator[ValServer]:
    """The VAL server."""
    async with val_server(server) as running:
        yield running


@pytest.mark.parametrize(
    ("direct", "websocket"),
    [(True, False), (False, False), (True, True)],
    ids=["direct", "by the server", "behind a NAT"],
)
async def test_a_task_moves_and_nothing_is_lost(
    server: RunningServer, val: ValServer, direct: bool, websocket: bool
) -> None:
    """The target goes on where the source stood, each step is taken once, and the model is the undisturbed one."""
    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    async with walkers(server, trainers, websocket=websocket) as clients:
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        done = await clients["ue-1"].transfer(direct=direct, reason="low battery")
        mode = "DIRECT" if direct and not websocket else "SERVER_CONTROLLED"
        assert (done.target, done.mode) == ("ue-2", mode)
        assert await owner_of(training) == ["ue-2"]
        trainers["ue-2"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
    assert trainers["ue-1"].steps + trainers["ue-2"].steps == list(range(1, STEPS + 1))
    assert len(trainers["ue-1"].steps) == done.iterations
    assert done.total == STEPS


@pytest.mark.parametrize("chosen", [{"members": ["ue-1"]}, {"criteria": member_criteria(), "num_clients": 1}])
async def test_the_target_stays(server: RunningServer, val: ValServer, chosen: dict[str, Any]) -> None:
    """In the rounds after a hand-over the target takes part, and the source, which had its reasons, does not."""
    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    async with walkers(server, {"ue-1": trainers["ue-1"]}) as first:
        training = await begin(val, objective=Objective(max_epochs=300), profile=PROFILE, **chosen)
        await stepped(trainers["ue-1"])
        async with walkers(server, {"ue-2": trainers["ue-2"]}):
            done = await first["ue-1"].transfer(reason="low battery")
            for trainer in trainers.values():
                trainer.hurry.set()
            assert (await events_of(training))[-1].state == "COMPLETED"
    assert len(trainers["ue-1"].steps) == done.iterations
    assert len(trainers["ue-2"].steps) == 3 * STEPS - done.iterations


async def test_no_state_outlives_its_training(
    server: RunningServer, val: ValServer, database: Database
) -> None:
    """When the training has ended, its intermediate states are gone."""

    async def states() -> list[str]:
        names = [document["_id"] async for document in database["artifacts"].find({})]
        return [name for name in names if ":state:" in name]

    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    async with walkers(server, trainers) as clients:
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        await clients["ue-1"].transfer(direct=False)
        assert len(await states()) == 1
        trainers["ue-2"].hurry.set()
        await events_of(training)

        async def gone() -> bool:
            return await states() == []

        await eventually(gone)


async def test_the_history_tells_who_did_what(server: RunningServer, val: ValServer) -> None:
    """The training's history and the transfer's tell who had the task until when, and why it moved."""
    trainers = {"ue-1": Walk(), "ue-2": Walk(), "ue-3": Walk()}
    async with walkers(server, trainers) as clients:
        training = await walking(val, "ue-1", rounds=2)
        await stepped(trainers["ue-1"])
        first = await clients["ue-1"].transfer(target="ue-3", reason="low battery")
        await stepped(trainers["ue-3"])
        second = await clients["ue-3"].transfer(target="ue-1", direct=False)
        trainers["ue-1"].hurry.set()
        trainers["ue-3"].hurry.set()
        events = await events_of(training)
        final = undisturbed(undisturbed(), 2)
        assert (await model_of(val, events)).tobytes() == final.tobytes()
        status = await training.status()
    assert [(m.round, m.source, m.target, m.mode, m.iterations, m.reason) for m in status.moves] == [
        (1, "ue-1", "ue-3", "DIRECT", first.iterations, "low battery"),
        (1, "ue-3", "ue-1", "SERVER_CONTROLLED", second.iterations, ""),
    ]
    assert first.iterations < second.iterations < STEPS
    assert trainers["ue-2"].steps == []


async def test_the_application_hears_that_a_task_is_gone(server: RunningServer, val: ValServer) -> None:
    """The round ends as TRANSFERRED at the source, and as TRAINED at the target."""
    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    reports: list[RoundReport] = []
    async with walkers(server, trainers) as clients:
        for client in clients.values():
            client.on_round(reports.append)
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        await clients["ue-1"].transfer()
        trainers["ue-2"].hurry.set()
        await events_of(training)
    outcomes = [report.outcome for report in reports if report.round == 1]
    assert outcomes == [Outcome.TRANSFERRED, Outcome.TRAINED]


async def test_nothing_is_under_way(server: RunningServer) -> None:
    """Without a training there is nothing to transfer."""
    async with walkers(server, {"ue-1": Walk()}) as clients:
        with pytest.raises(NothingToTransfer):
            await clients["ue-1"].transfer()


async def test_a_policy_gives_the_task_away(server: RunningServer, val: ValServer) -> None:
    """A policy that has a reason to hand over is all that it takes; it is shown how far the training is."""

    class Battery(DefaultPolicy):
        async def hand_over(self, task: Task) -> str:
            return "low battery" if task.reins.done >= 3 else ""

    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    policy = Battery(frozenset({"digits"}), frozenset({"val-vision"}))
    async with (
        walkers(server, {"ue-2": trainers["ue-2"]}),
        walkers(server, {"ue-1": trainers["ue-1"]}, policy=policy),
    ):
        training = await walking(val, "ue-1")
        await eventually(lambda: trainers["ue-2"].steps)
        trainers["ue-2"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
        assert [move.reason for move in (await training.status()).moves] == ["low battery"]


async def test_the_report_of_the_source_is_late(server: RunningServer, val: ValServer) -> None:
    """After the hand-over its addresses are nobody's, and only the target's update is in the model."""
    async with participants(server.url, "ue-1", "ue-2") as [source, target]:
        target.takes = True
        training = await walking(val, "ue-1")
        await source.asked()
        _, answer, _ = await source.ask_for_help(training.id)
        transfer = answer["aimle"]["transferId"]
        assert answer["transferMode"] == "SERVER_CONTROLLED"
        update_url, notif_uri = source.update_url, source.notif_uri
        assert (await source.hand_over(transfer, "ue-2"))[1]["cause"] == "NO_INTERMEDIATE_STATE"
        assert (await source.deposit(state(3)))[0] == 204
        assert (await source.hand_over(transfer, "ue-2"))[0] == 204
        await target.asked()
        assert (await source.put(update(np.full(4, 9, np.float32)), update_url))[0] == 404
        assert await source.notify(notif_uri) == 404
        await target.participate(update(np.full(4, 2, np.float32), {"aimle.num_samples": "5"}))
        await target.asked(2)
        assert await target.notify() == 204
        events = await events_of(training)
        assert (await model_of(val, events)).tolist() == [2, 2, 2, 2]
        stands = await source.transfer(transfer)
        assert (stands["state"], stands["owner"]) == ("HANDED_OVER", "ue-2")


async def test_a_task_is_handed_over_once(server: RunningServer, val: ValServer) -> None:
    """Repeating it changes nothing; a foreign transfer, and a target that did not agree, are refused."""
    async with participants(server.url, "ue-1", "ue-2", "ue-3") as [source, target, other]:
        target.takes = True
        training = await walking(val, "ue-1")
        await source.asked()
        transfer = (await source.ask_for_help(training.id))[1]["aimle"]["transferId"]
        assert (await source.deposit(state(3)))[0] == 204
        url = source.notif_uri
        assert (await source.hand_over("no-such-transfer", "ue-2"))[0] == 404
        assert (await source.hand_over(transfer, "ue-3"))[0] == 404
        await asyncio.gather(*(source.hand_over(transfer, "ue-2") for _ in range(3)))
        source.subscriptions["kept"] = {"notifUri": url}
        assert (await source.hand_over(transfer, "ue-2"))[0] == 404
        await target.asked()
        assert (target.rounds, other.rounds) == (1, 0)
        assert await moves_of(val, training) == [("ue-1", "ue-2", 3)]


async def test_foreign_tasks_are_not_given_away(server: RunningServer, val: ValServer) -> None:
    """Who has no part in a training, or is not registered, gets no help with its tasks."""
    async with participants(server.url, "ue-1", "ue-2") as [source, other]:
        other.takes = True
        training = await walking(val, "ue-1")
        await source.asked()
        assert (await other.ask_for_help(training.id))[1]["cause"] == "NO_SUCH_TASK"
        assert (await source.ask_for_help("no-such-training"))[1]["cause"] == "NO_SUCH_TASK"
        stranger = {"valUeId": "stranger"}
        assert (await source.ask_for_help(training.id, requestorId=stranger))[0] == 403
        assert other.offered == []


async def test_the_window_is_when_the_target_is_available(mongo_url: str, database: Database) -> None:
    """It ends early enough for what is left to do, at the pace of the source, within the target's hours."""
    clock = ManualClock()  # midnight
    until_one = {"availTimeSchedCfgs": [{"timeOfDayStart": "23:00:00Z", "timeOfDayEnd": "01:00:00Z"}]}
    async with (
        serving(mongo_url, database, clock=clock) as server,
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2") as [source, target],
    ):
        target.takes = True
        await target.register(**until_one)
        training = await walking(val, "ue-1")
        await source.asked()
        valid = {"timeValidity": {**WINDOW, "stopTime": "2030-01-01T02:00:00.000Z"}}
        used = {
            "aimlUsedTrainTime": {**WINDOW, "stopTime": "2030-01-01T00:00:10.000Z"},
            "usedTrainIterNum": 10,
        }
        rest = {"aimlRmngTrainReq": {"reqRmngTrainIterNum": 600}, "aimlImdInfo": used}
        _, answer, _ = await source.ask_for_help(training.id, **valid, **rest)
        expected = {**WINDOW, "stopTime": "2030-01-01T00:50:00.000Z"}
        assert answer["assistanceTime"] == expected
        assert target.offered[-1]["aimlTaskTransferTime"] == expected
        too_much = {**rest, "aimlRmngTrainReq": {"reqRmngTrainIterNum": 3601}}
        assert (await source.ask_for_help(training.id, **valid, **too_much))[1]["cause"] == "NO_TARGET"

"""What can go wrong with a task that moves, and who has it then: one owner, or a stated failure (TS 23.482 8.6)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from aimle_client.errors import Forbidden
from aimle_client.policy import DefaultPolicy
from aimle_client.testing import RunningServer
from aimle_client.val import ValServer
from ml_repository.database import Database
from tests.support import ManualClock, eventually, passing
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
from tests.support_training import events_of, serving, val_server

ROUND = 100.0
"""Seconds of a round, where a test moves the time."""


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


async def test_nobody_takes_the_task(server: RunningServer, val: ValServer) -> None:
    """Where everybody refuses the transfer fails, and the source finishes its task."""
    policy = DefaultPolicy(frozenset({"digits"}), frozenset({"val-vision"}), paused=True)
    trainers, other = {"ue-1": Walk()}, {"ue-2": Walk()}
    async with walkers(server, other, policy=policy), walkers(server, trainers) as clients:
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        with pytest.raises(Forbidden) as refused:
            await clients["ue-1"].transfer()
        assert refused.value.cause == "NO_TARGET"
        assert await owner_of(training) == ["ue-1"]
        trainers["ue-1"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
    assert trainers["ue-1"].steps == list(range(1, STEPS + 1))


async def test_a_target_that_cannot_go_on(server: RunningServer, val: ValServer) -> None:
    """A state of other samples is refused by the target's trainer; the server finds who can: here the source itself."""
    trainers = {"ue-1": Walk(), "ue-2": Walk(samples=8)}
    async with walkers(server, trainers) as clients:
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        done = await clients["ue-1"].transfer()
        assert (done.target, done.mode) == ("ue-2", "SERVER_CONTROLLED")
        trainers["ue-1"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
        assert await moves_of(val, training) == [
            ("ue-1", "ue-2", done.iterations),
            ("ue-2", "ue-1", done.iterations),
        ]
        [_, back] = (await training.status()).moves
        assert "the state is of 40 samples, there are 8 here" in back.reason
    assert trainers["ue-2"].steps == []


async def test_the_target_is_dead_before_the_transfer(server: RunningServer, val: ValServer) -> None:
    """One that does not answer is passed over for one that does."""
    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    async with participants(server.url, "dead") as [dead], walkers(server, trainers) as clients:
        await dead.vanish()
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        done = await clients["ue-1"].transfer()
        assert done.target == "ue-2"
        trainers["ue-2"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()


async def test_the_target_dies_during_the_transfer(server: RunningServer, val: ValServer) -> None:
    """A target that agreed and does not take the state gets no task; the next one that agreed does."""
    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    async with participants(server.url, "dying") as [dying], walkers(server, trainers) as clients:
        dying.takes = dying.direct = True
        dying.state_status = 500
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        done = await clients["ue-1"].transfer()
        assert done.target == "ue-2"
        assert dying.operations == []
        trainers["ue-2"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()


async def test_the_only_target_dies_during_the_transfer(server: RunningServer, val: ValServer) -> None:
    """With nobody else the transfer fails, and the source goes on as if nothing had been."""
    trainers = {"ue-1": Walk()}
    async with participants(server.url, "dying") as [dying], walkers(server, trainers) as clients:
        dying.takes = dying.direct = True
        dying.state_status, dying.most = 500, 1
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        with pytest.raises(Forbidden):
            await clients["ue-1"].transfer()
        assert len(dying.offered) == 2
        assert await owner_of(training) == ["ue-1"]
        trainers["ue-1"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
    assert trainers["ue-1"].steps == list(range(1, STEPS + 1))


@dataclass(frozen=True)
class Timed:
    """A server whose time the test moves, and a VAL server."""

    clock: ManualClock
    server: RunningServer
    val: ValServer

    def deadline(self) -> None:
        """The time of the round is over."""
        self.clock.advance(ROUND + 1)


@pytest.fixture
async def timed(mongo_url: str, database: Database) -> AsyncIterator[Timed]:
    """On an empty database."""
    clock = ManualClock()
    settings = {"hfl.round_timeout": ROUND}
    async with serving(mongo_url, database, settings, clock=clock) as running, val_server(running) as val:
        yield Timed(clock, running, val)


async def test_the_target_dies_after_the_transfer(timed: Timed) -> None:
    """The state is still at the server: at the deadline a third client goes on from there."""
    trainers, val = {"ue-1": Walk(), "ue-3": Walk()}, timed.val
    async with (
        participants(timed.server.url, "ue-2") as [silent],
        walkers(timed.server, trainers, clock=timed.clock) as clients,
    ):
        silent.takes = True
        training = await walking(val, "ue-1")
        await stepped(trainers["ue-1"])
        done = await clients["ue-1"].transfer(target="ue-2")
        assert (done.target, done.mode) == ("ue-2", "SERVER_CONTROLLED")
        await silent.asked()
        await silent.vanish()
        timed.deadline()
        await eventually(lambda: trainers["ue-3"].steps)
        assert trainers["ue-3"].steps[0] == done.iterations + 1
        trainers["ue-3"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
        assert await moves_of(val, training) == [
            ("ue-1", "ue-2", done.iterations),
            ("ue-2", "ue-3", done.iterations),
        ]


@pytest.mark.parametrize("left", ["nothing", "half of its state"])
async def test_a_source_that_dies_during_the_transfer(timed: Timed, left: str) -> None:
    """The target that agreed gets nothing, the source is the owner to the end, and the training says why it failed."""
    val = timed.val
    async with participants(timed.server.url, "ue-1", "ue-2") as [source, target]:
        target.takes = True
        training = await walking(val, "ue-1")
        await source.asked()
        status, answer, _ = await source.ask_for_help(training.id)
        assert status == 200, answer
        if left != "nothing":
            whole = state(3)
            half = len(whole) // 2
            url = source.notif_uri.replace("/notifications", "/state")
            part = {"Content-Range": f"bytes 0-{half - 1}/{len(whole)}"}
            assert (await source.put(whole[:half], url, **part))[0] == 204
        await source.vanish()
        timed.deadline()
        events = await events_of(training)
        assert (events[-1].state, target.rounds) == ("FAILED", 0)
        assert "updates from 0 of 1 clients" in str(events[-1].reason)
        transfer = await source.transfer(answer["aimle"]["transferId"])
        assert transfer["owner"] == "ue-1"
        assert await moves_of(val, training) == []


async def test_a_source_that_dies_after_it_has_left_its_state(timed: Timed) -> None:
    """The server decides: what was left is gone on with by another client, and nothing of it is lost."""
    trainers, val = {"ue-2": Walk()}, timed.val
    async with (
        participants(timed.server.url, "ue-1") as [source],
        walkers(timed.server, trainers, clock=timed.clock),
    ):
        training = await walking(val, "ue-1")
        await source.asked()
        assert (await source.deposit(state(100)))[0] == 204
        await source.vanish()
        timed.deadline()
        await eventually(lambda: trainers["ue-2"].steps)
        trainers["ue-2"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
        assert await moves_of(val, training) == [("ue-1", "ue-2", 100)]
    assert trainers["ue-2"].steps == list(range(101, STEPS + 1))


async def test_copies_of_the_state_are_left_at_the_server(mongo_url: str, database: Database) -> None:
    """A client that is gone in the middle of its round is replaced before the deadline, from its latest copy."""
    trainers, clock = {"ue-1": Walk(), "ue-2": Walk()}, ManualClock()
    async with (
        serving(mongo_url, database, clock=clock) as server,
        val_server(server) as val,
        walkers(server, {"ue-2": trainers["ue-2"]}),
    ):
        async with walkers(server, {"ue-1": trainers["ue-1"]}, deposit_every=0.1):
            training = await walking(val, "ue-1", profile=replace(PROFILE, round_timeout=3600))
            await stepped(trainers["ue-1"], 20)
        async with passing(clock):
            await eventually(lambda: trainers["ue-2"].steps, timeout=15)
        trainers["ue-2"].hurry.set()
        events = await events_of(training)
        assert (await model_of(val, events)).tobytes() == undisturbed().tobytes()
        [move] = (await training.status()).moves
        assert (move.mode, move.reason) == ("SERVER_CONTROLLED", "its registration is over")
    assert trainers["ue-2"].steps[0] == move.iterations + 1 > 1


async def test_a_record_that_was_not_finished(
    server: RunningServer, val: ValServer, database: Database
) -> None:
    """A server that died between the hand-over and its record: the training knows, also when it has ended."""
    async with participants(server.url, "ue-1", "ue-2") as [source, target]:
        target.takes = True
        training = await walking(val, "ue-1")
        await source.asked()
        transfer = (await source.ask_for_help(training.id))[1]["aimle"]["transferId"]
        await source.deposit(state(3))
        before = await database["task_transfers"].find_one({"_id": transfer})
        assert (await source.hand_over(transfer, "ue-2"))[0] == 204
        await target.asked()
        await target.participate(update(np.full(4, 2, np.float32)))
        await target.asked(2)
        assert await target.notify() == 204
        await events_of(training)
        await database["task_transfers"].replace_one({"_id": transfer}, before)
        stands = await source.transfer(transfer)
        assert (stands["state"], stands["owner"]) == ("HANDED_OVER", "ue-2")


async def test_the_window_passes(mongo_url: str, database: Database) -> None:
    """Before its window and after it a task does not change hands: it stays the source's, and the transfer says so."""
    clock = ManualClock()
    later = {**WINDOW, "startTime": "2030-01-01T00:02:00.000Z"}
    async with (
        serving(mongo_url, database, {"hfl.round_timeout": 3600.0}, clock=clock) as server,
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2") as [source, target],
    ):
        target.takes = True
        training = await walking(val, "ue-1")
        await source.asked()
        assert (await source.deposit(state(3)))[0] == 204
        _, answer, _ = await source.ask_for_help(training.id, timeValidity=later)
        assert answer["assistanceTime"] == later
        transfer = answer["aimle"]["transferId"]
        assert (await source.hand_over(transfer, "ue-2"))[1]["cause"] == "WINDOW_NOT_OPEN"
        clock.advance(301)
        assert (await source.hand_over(transfer, "ue-2"))[1]["cause"] == "WINDOW_IS_OVER"
        stands = await source.transfer(transfer)
        assert [entry["state"] for entry in stands["history"]] == ["REQUESTED", "AGREED", "EXPIRED"]
        assert stands["owner"] == "ue-1"
        assert (await source.hand_over(transfer, "ue-2"))[1]["cause"] == "TRANSFER_IS_OVER"
        await source.participate(update(np.full(4, 3, np.float32)))
        await source.asked(2)
        assert target.rounds == 0


async def test_the_hours_of_the_source_end(mongo_url: str, database: Database) -> None:
    """The server has another client go on from what the source has left, and tells the source to stop."""
    clock = ManualClock()
    until_one = {"availTimeSchedCfgs": [{"timeOfDayStart": "23:00:00Z", "timeOfDayEnd": "01:00:00Z"}]}
    settings = {"hfl.round_timeout": 100_000.0}
    async with (
        serving(mongo_url, database, settings, clock=clock) as server,
        val_server(server) as val,
        participants(server.url, "ue-1", "ue-2") as [source, target],
    ):
        target.takes = True
        await source.register(**until_one)
        training = await walking(val, "ue-1")
        await source.asked()
        assert (await source.deposit(state(3)))[0] == 204
        clock.advance(3600)
        await target.asked()
        [move] = (await training.status()).moves
        assert (move.source, move.target, move.reason) == ("ue-1", "ue-2", "its hours are over")
        await eventually(lambda: source.subscription is None)

"""Who takes part in a training, and what becomes of those who do not keep up (TS 23.482 8.3, 8.12)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest

from aimle_client.runtime.report import Outcome, RoundReport
from aimle_client.testing import RunningServer
from aimle_client.val import (
    Objective,
    Training,
    TrainingProfile,
    ValServer,
    discovery_criteria,
    member_criteria,
)
from ml_repository.database import Database
from tests.support import eventually
from tests.support_participant import all_asked, participants, update
from tests.support_training import (
    Pull,
    begin,
    events_of,
    fedavg,
    hears_nothing_more,
    reached,
    serving,
    ue,
    ues,
    val_server,
)

ONES = np.ones(4, np.float32)
FAST = {"learningRate": 0.5}
QUICK = TrainingProfile(learning_rate=0.5, round_timeout=1)


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """The AIMLE server, which gives up on clients soon."""
    settings = {"hfl.round_timeout": 1.0, "hfl.join_timeout": 0.5, "hfl.call_timeout": 2.0}
    async with serving(mongo_url, database, settings) as running:
        yield running


@pytest.fixture
async def val(server: RunningServer) -> AsyncIterator[ValServer]:
    """The VAL server."""
    async with val_server(server) as running:
        yield running


async def taking_part(training: Training) -> dict[str, str]:
    """The participants of the running round and what each has done in it."""
    return {part.client_id: part.state for part in (await training.status()).participants}


async def consists_of(training: Training, *names: str) -> None:
    """Return when exactly these clients take part."""

    async def so() -> bool:
        return set(await taking_part(training)) == set(names)

    await eventually(so)


async def members_told(training: Training) -> list[tuple[str, bool]]:
    """The changes of members that were notified: the client's address and whether it came; all of them."""
    return [(change.uri, change.selected) for event in await events_of(training) for change in event.members]


async def test_named_members(server: RunningServer, val: ValServer) -> None:
    """With `members` these train and nobody else."""
    trainers = {name: Pull(1.0) for name in ("ue-1", "ue-2", "ue-3")}
    async with ues(server, trainers):
        await events_of(await begin(val, members=["ue-1", "ue-3"], objective=Objective(max_epochs=1)))
    assert [len(trainer.configs) for trainer in trainers.values()] == [1, 0, 1]


async def test_a_client_set(server: RunningServer, val: ValServer) -> None:
    """The clients of a set train, stay in the set afterwards, and criteria replace one that leaves."""
    trainers = {name: Pull(1.0) for name in ("ue-1", "ue-2")}
    async with ues(server, trainers) as clients, AsyncExitStack() as stack:
        chosen = await val.select(discovery_criteria("val-vision", datasets=["digits"]), req_num=2, min_num=2)
        leaving = Pull(1.0)
        third = await stack.enter_async_context(ue(server.url, "ue-3", leaving))
        training = await begin(
            val, client_set=chosen.client_set, criteria=member_criteria(), objective=Objective()
        )
        await consists_of(training, "ue-1", "ue-2")
        await val.stop_operation(clients=["ue-2"], training_id=training.id)
        await consists_of(training, "ue-1", "ue-3")
        await training.cancel()
        await eventually(lambda: hears_nothing_more({"ue-3": third}))
        assert clients["ue-1"].status.client_sets == {chosen.client_set}


async def test_by_criteria(server: RunningServer, val: ValServer) -> None:
    """As many as `numReqClients` train; one that deregisters is replaced, and the VAL server is told of both."""
    async with AsyncExitStack() as stack:

        async def join(name: str, trainer: Pull) -> str:
            return (await stack.enter_async_context(ue(server.url, name, trainer))).status.uri

        holding = Pull(1.0)  # so that the training is cancelled before there are any figures
        stack.callback(holding.gate.set)
        holding.gate.clear()
        leaving = ue(server.url, "ue-0", Pull(1.0))
        async with leaving:
            gone, stays = leaving.status.uri, await join("ue-1", Pull(1.0))
            training = await begin(
                val, criteria=member_criteria(), num_clients=2, objective=Objective(), member_updates=True
            )
            await consists_of(training, "ue-0", "ue-1")
            new = await join("ue-2", holding)
            await reached(training, "ROUND_RUNNING", rounds=2)
            assert set(await taking_part(training)) == {"ue-0", "ue-1"}
        await consists_of(training, "ue-1", "ue-2")
        await training.cancel()
        holding.gate.set()
        changes = await members_told(training)
    assert sorted(changes[:2]) == sorted([(gone, True), (stays, True)])
    assert sorted(changes[2:4]) == sorted([(gone, False), (new, True)])
    assert sorted(changes[4:]) == sorted([(stays, False), (new, False)]), "told with the end"


async def test_criteria_that_are_no_longer_fulfilled(server: RunningServer, val: ValServer) -> None:
    """A client that changes its profile so that it does not fit any more is replaced, and told so."""
    async with participants(server.url, "ue-0") as (changing,):
        training = await begin(val, criteria=member_criteria(), num_clients=1, objective=Objective())
        await changing.asked()
        async with ues(server, {"ue-1": Pull(1.0)}):
            await changing.register(dataSetAvail={"dataSetIds": ["letters"]})
            await changing.participate(update(ONES))
            await consists_of(training, "ue-1")
            await eventually(lambda: changing.subscription is None)
            await eventually(lambda: changing.operations[-1]["servOpMode"] == "STOP")
            await training.cancel()


async def test_a_client_that_vanished(server: RunningServer, val: ValServer) -> None:
    """A client whose process is gone costs two rounds at most, then another takes its place."""
    async with participants(server.url, "ue-0") as (vanishing,), ues(server, {"ue-1": Pull(1.0)}):
        training = await begin(
            val, criteria=member_criteria(), num_clients=2, objective=Objective(), profile=QUICK
        )
        await consists_of(training, "ue-0", "ue-1")
        await vanishing.asked()
        await vanishing.vanish()
        async with ues(server, {"ue-2": Pull(1.0)}):
            await consists_of(training, "ue-1", "ue-2")
            assert (await training.status()).round >= 2
            await training.cancel()


async def test_a_straggler(server: RunningServer, val: ValServer) -> None:
    """Who has not reported at the deadline is left out of the round and of the mean; the training goes on."""
    trainers = {name: Pull(target) for name, target in (("ue-1", 0.9), ("ue-2", 1.0), ("ue-3", 5.0))}
    trainers["ue-3"].gate.clear()
    reports: list[RoundReport] = []
    async with ues(server, trainers) as clients:
        clients["ue-3"].on_round(reports.append)
        training = await begin(val, members=list(trainers), objective=Objective(max_epochs=3), profile=QUICK)
        last = (await events_of(training))[-1]
        trainers["ue-3"].gate.set()
        await eventually(lambda: hears_nothing_more(clients))
        await eventually(lambda: len(reports) == 2)
    assert {report.outcome for report in reports} == {Outcome.DISCARDED}
    history = (await training.status()).history
    assert [entry.participants for entry in history] == [2, 2, 2]
    del trainers["ue-3"]
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], fedavg(trainers, 3, **FAST)[-1], atol=1e-6)


async def test_a_late_report(server: RunningServer, val: ValServer) -> None:
    """What comes after the deadline is refused or ignored, and the model does not change."""
    async with participants(server.url, "ue-1", "ue-2") as found:
        in_time, late = found
        training = await begin(
            val, members=["ue-1", "ue-2"], objective=Objective(max_epochs=1), profile=QUICK
        )
        await all_asked(found)
        await in_time.participate(update(ONES))
        old = late.update_url, late.notif_uri
        await all_asked(found, 2)
        status, problem, _ = await late.put(update(9 * ONES), old[0])
        assert (status, problem["cause"]) == (409, "ROUND_IS_OVER")
        assert await late.notify(old[1], hflTrngOut={"modelAccuracy": 100}) == 204
        assert set((await taking_part(training)).values()) == {"TRAINING"}
        for client in found:
            assert await client.notify(hflTrngOut={"modelAccuracy": 50}) == 204
        last = (await events_of(training))[-1]
    assert last.metrics == {"accuracy": 0.5}
    np.testing.assert_array_equal((await val.download_model(str(last.output_model_id)))["w"], ONES)


async def test_too_few_updates(server: RunningServer, val: ValServer) -> None:
    """A round that misses its quorum is asked once more; then the training fails and says the numbers."""
    trainers = {"ue-1": Pull(1.0), "ue-2": Pull(1.0)}
    trainers["ue-2"].gate.clear()
    profile = TrainingProfile(round_timeout=1, min_reports=1.0)
    async with ues(server, trainers):
        training = await begin(val, members=list(trainers), objective=Objective(), profile=profile)
        last = (await events_of(training))[-1]
    assert (last.state, last.error, last.output_model_id) == ("FAILED", "PERFORMANCE_ERRORS", None)
    assert str(last.reason).startswith("round 1: updates from 1 of 2 clients, 2 needed")
    assert len(trainers["ue-1"].configs) == 2


async def test_a_trainer_that_raises(server: RunningServer, val: ValServer) -> None:
    """A client that reports an error is left out at once, without waiting for the deadline."""
    trainers = {name: Pull(1.0) for name in ("ue-1", "ue-2", "ue-3")}
    trainers["ue-2"].error = FloatingPointError("diverged")
    profile = TrainingProfile(learning_rate=0.5, round_timeout=600)
    async with ues(server, trainers):
        training = await begin(
            val, members=list(trainers), objective=Objective(max_epochs=2), profile=profile
        )
        async with asyncio.timeout(20):
            last = (await events_of(training))[-1]
    assert [entry.participants for entry in (await training.status()).history] == [2, 2]
    del trainers["ue-2"]
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], fedavg(trainers, 2, **FAST)[-1], atol=1e-6)


async def test_a_client_that_restarts_elsewhere(server: RunningServer, val: ValServer) -> None:
    """A client that registers anew with another address is asked there, from the next round on."""
    trainer = Pull(1.0)
    async with participants(server.url, "ue-1", "ue-2") as found:
        training = await begin(val, members=["ue-1", "ue-2"], objective=Objective(), profile=QUICK)
        await all_asked(found)
        await found[0].vanish()
        async with ue(server.url, "ue-1", trainer) as again:
            await found[1].participate(update(ONES))
            await eventually(lambda: trainer.configs)
            assert again.status.subscriptions
            assert set(await taking_part(training)) == {"ue-1", "ue-2"}
            await training.cancel()


async def test_a_client_that_forgot_its_subscription(server: RunningServer, val: ValServer) -> None:
    """A client that answers 404 for its subscription gets a new one in the same round."""
    async with participants(server.url, "ue-1") as (client,):
        training = await begin(val, members=["ue-1"], objective=Objective())
        await client.asked()
        first = client.notif_uri
        client.subscriptions.clear()
        assert (await client.put(update(ONES), first.replace("notifications", "update")))[0] == 204
        assert await client.notify(first) == 204
        await client.asked(2)
        assert client.notif_uri == first.replace("rounds/1", "rounds/2")
        assert [body["servOpMode"] for body in client.operations] == ["START", "START"]
        await training.cancel()


async def test_nobody_is_there(server: RunningServer, val: ValServer) -> None:
    """A training that finds too few clients within the server's patience fails and says how many there are."""
    training = await begin(val, members=["ue-1", "ue-2", "ue-3"], objective=Objective())
    last = (await events_of(training))[-1]
    assert (last.state, last.reason) == ("FAILED", "0 clients take part, 2 needed")


async def test_everybody_leaves_before_the_last_evaluation(server: RunningServer, val: ValServer) -> None:
    """The model of the last round is the result although nobody is left to evaluate it."""
    async with participants(server.url, "ue-1") as (client,):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await client.asked()
        await client.deregister()
        await client.participate(update(ONES))
        last = (await events_of(training))[-1]
    assert (last.state, last.metrics) == ("COMPLETED", {})
    np.testing.assert_array_equal((await val.download_model(str(last.output_model_id)))["w"], ONES)


async def test_an_operation_stopped_at_one_client(server: RunningServer, val: ValServer) -> None:
    """STOP at one client of a running round: the round closes without it, and it is not asked again."""
    trainers = {"ue-1": Pull(1.0), "ue-2": Pull(1.0)}
    trainers["ue-2"].gate.clear()
    async with ues(server, trainers) as clients:
        profile = TrainingProfile(round_timeout=60)
        training = await begin(
            val, members=list(trainers), objective=Objective(max_epochs=3), profile=profile
        )
        await eventually(trainers["ue-2"].fitting.is_set)
        await val.stop_operation(clients=["ue-2"], training_id=training.id)
        async with asyncio.timeout(20):
            last = (await events_of(training))[-1]
        await eventually(lambda: hears_nothing_more({"ue-2": clients["ue-2"]}))
    assert last.state == "COMPLETED"
    assert len(trainers["ue-2"].configs) == 1

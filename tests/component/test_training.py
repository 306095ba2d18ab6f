"""Trainings from request to result, with a real server and real UEs (TS 23.482 8.3, 8.12)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from safetensors.numpy import save

from aimle_client.errors import RequestRefused
from aimle_client.testing import RunningServer
from aimle_client.val import Objective, TrainingProfile, ValServer, model_criteria
from ml_repository.database import Database
from tests.support import Listener, ManualClock, eventually
from tests.support_bfloat16 import bfloat16_file
from tests.support_training import (
    ADAM,
    START,
    Pull,
    accuracy_of,
    begin,
    events_of,
    fedadam,
    fedavg,
    hears_nothing_more,
    mean_of_round,
    reached,
    serving,
    ues,
    val_server,
)

NAMES = ("ue-1", "ue-2", "ue-3")
FAST = TrainingProfile(learning_rate=0.5, seed=3, round_timeout=20)


def three() -> dict[str, Pull]:
    """Trainers that do not agree, with data sets of different sizes."""
    return {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.0, 10), "ue-3": Pull(1.1, 40)}


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """The AIMLE server."""
    async with serving(mongo_url, database) as running:
        yield running


@pytest.fixture
async def val(server: RunningServer) -> AsyncIterator[ValServer]:
    """The VAL server."""
    async with val_server(server) as running:
        yield running


async def test_the_target_is_reached(server: RunningServer, val: ValServer) -> None:
    """The result is the weighted mean of the updates round by round, evaluated, stored and handed out."""
    trainers = three()
    async with ues(server, trainers) as clients:
        training = await begin(
            val, members=NAMES, objective=Objective(target=0.9), profile=FAST, member_updates=True
        )
        events = await events_of(training)
        await eventually(lambda: hears_nothing_more(clients))
    rounds = len([event for event in events if event.round])
    models = fedavg(trainers, rounds, learningRate=0.5, seed=3)
    accuracies = [accuracy_of(trainers, w) for w in models]
    assert max(accuracies[:-1]) < 0.9 <= accuracies[-1]

    last = events[-1]
    assert (last.state, last.percentage, last.error) == ("COMPLETED", 100, None)
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], models[-1], atol=1e-6)
    assert last.metrics["accuracy"] == pytest.approx(accuracies[-1], abs=1e-6)
    (found,) = await val.find_models(model_criteria(base="digits"))
    assert (found.model_id, found.phase) == (last.output_model_id, "TRAINED")
    assert found.info["phaseInfo"]["trainingInfo"]["baseModelId"] == "digits"
    assert "accuracy" in found.info["phaseInfo"]["observedPerf"]["appSpecPerfData"]

    assert [change.selected for change in events[0].members] == [True] * 3
    assert [event.round for event in events[1:-1]] == list(range(1, rounds + 1))
    percentages = [event.percentage for event in events if event.percentage is not None]
    assert percentages == sorted(percentages)
    status = await training.status()
    assert [entry.metrics["accuracy"] for entry in status.history] == pytest.approx(accuracies[1:], abs=1e-6)
    assert {(entry.participants, entry.samples) for entry in status.history} == {(3, 55)}


async def test_while_it_runs_the_result_is_announced(server: RunningServer, val: ValServer) -> None:
    """A running training's model is found in phase IN_TRAINING, without an address, and refused to everybody."""
    trainers = {"ue-1": Pull(1.0)}
    trainers["ue-1"].gate.clear()
    async with ues(server, trainers):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await eventually(trainers["ue-1"].fitting.is_set)
        (found,) = await val.find_models(model_criteria(phase="IN_TRAINING"))
        assert found.uri is None
        address = f"{server.url}/aimle-artifacts/v1/models/{found.model_id}"
        async with aiohttp.ClientSession() as session, session.get(address) as refused:
            assert refused.status == 409
            assert (await refused.json())["cause"] == "MODEL_IN_TRAINING"
        trainers["ue-1"].gate.set()
        assert (await events_of(training))[-1].output_model_id == found.model_id
    assert (await val.download_model(found.model_id))["w"].shape == (4,)


async def test_fedprox(server: RunningServer, val: ValServer) -> None:
    """With FEDPROX the clients are told how strongly they are pulled back, and their updates are averaged."""
    trainers = three()
    profile = TrainingProfile(strategy="FEDPROX", proximal_mu=0.25, learning_rate=0.5, seed=3)
    async with ues(server, trainers):
        training = await begin(val, members=NAMES, objective=Objective(max_epochs=2), profile=profile)
        last = (await events_of(training))[-1]
    assert [config["proximalMu"] for config in trainers["ue-1"].configs] == [0.25, 0.25]
    expected = fedavg(trainers, 2, learningRate=0.5, seed=3, proximalMu=0.25)[-1]
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], expected, atol=1e-6)


async def test_fedadam(server: RunningServer, val: ValServer) -> None:
    """FEDADAM carries its moments from round to round: the result is that of Adam on the mean changes."""
    trainers = three()
    profile = TrainingProfile(**ADAM, learning_rate=0.5)
    async with ues(server, trainers):
        training = await begin(val, members=NAMES, objective=Objective(max_epochs=4), profile=profile)
        last = (await events_of(training))[-1]
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], fedadam(trainers, 4, learningRate=0.5), atol=1e-5)
    assert "proximalMu" not in trainers["ue-1"].configs[0]


async def test_a_training_keeps_the_profile_it_began_with(server: RunningServer, val: ValServer) -> None:
    """A profile that is changed during a training is for the next one."""
    trainers = {"ue-1": Pull(1.0)}
    trainers["ue-1"].gate.clear()
    async with ues(server, trainers):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=2), profile=FAST)
        await eventually(trainers["ue-1"].fitting.is_set)
        await val.put_training_profile("digits", TrainingProfile(learning_rate=0.125))
        trainers["ue-1"].gate.set()
        await events_of(training)
        again = await val.train(
            model_id="digits", dataset_ids=["digits"], members=["ue-1"], objective=Objective(max_epochs=1)
        )
        await events_of(again)
    assert [config["learningRate"] for config in trainers["ue-1"].configs] == [0.5, 0.5, 0.125]


async def test_early_stopping(server: RunningServer, val: ValServer) -> None:
    """Rounds without improvement end the training, and the best model so far is the result."""
    trainers = {"ue-1": Pull(1.0)}

    def overshoot(event: object) -> None:
        if len(trainers["ue-1"].configs) == 2:
            trainers["ue-1"].step = lambda w, config: w + np.float32(1)  # type: ignore[method-assign]

    async with ues(server, trainers) as clients:
        clients["ue-1"].on_round(overshoot)
        training = await begin(
            val,
            members=["ue-1"],
            objective=Objective(patience=2, min_delta=0.01, max_epochs=50),
            profile=FAST,
        )
        last = (await events_of(training))[-1]
    assert (last.state, last.error, last.evaluated_round) == ("COMPLETED", None, 2)
    assert "early stopping" in str(last.reason)
    expected = fedavg({"ue-1": Pull(1.0)}, 2, learningRate=0.5, seed=3)[-1]
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], expected, atol=1e-6)


async def test_too_few_epochs(server: RunningServer, val: ValServer) -> None:
    """`maxEpochs` counts local epochs; the last round only evaluates; a target that is missed is UNDERFITTING."""
    trainers = three()
    profile = TrainingProfile(learning_rate=0.1, local_epochs=2)
    async with ues(server, trainers):
        training = await begin(
            val, members=NAMES, objective=Objective(target=0.99, max_epochs=4), profile=profile
        )
        last = (await events_of(training))[-1]
    assert (last.state, last.error, last.evaluated_round) == ("COMPLETED", "UNDERFITTING", 2)
    assert [len(trainer.configs) for trainer in trainers.values()] == [2, 2, 2]
    expected = fedavg(trainers, 2, learningRate=0.1)[-1]
    assert last.metrics["accuracy"] == pytest.approx(accuracy_of(trainers, expected), abs=1e-6)


async def test_an_error_that_is_not_acceptable(server: RunningServer, val: ValServer) -> None:
    """A result above `accTrainingErr` is a failure with a reason, and leaves no model behind."""
    async with ues(server, {"ue-1": Pull(1.0)}) as clients:
        training = await begin(
            val,
            members=["ue-1"],
            objective=Objective(target=0.99, max_epochs=1, acceptable_error=0.1),
            profile=FAST,
        )
        last = (await events_of(training))[-1]
        await eventually(lambda: hears_nothing_more(clients))
    assert (last.state, last.error, last.output_model_id) == ("FAILED", "PERFORMANCE_ERRORS", None)
    assert "above what is acceptable" in str(last.reason)
    await eventually(lambda: _models_are(val, "digits"))


async def test_cancelled_in_a_round(server: RunningServer, val: ValServer) -> None:
    """A training that is cancelled in its second round stores the first round's model, and the UEs are told."""
    trainers = three()

    def hold(event: object) -> None:
        trainers["ue-2"].gate.clear()

    async with ues(server, trainers) as clients:
        clients["ue-2"].on_round(hold)
        training = await begin(val, members=NAMES, objective=Objective(), profile=FAST)
        await eventually(lambda: len(trainers["ue-2"].configs) == 2)
        await training.cancel()
        last = (await events_of(training))[-1]
        await eventually(lambda: hears_nothing_more(clients))
    assert (last.state, last.evaluated_round, last.error) == ("CANCELLED", 1, None)
    result = await val.download_model(str(last.output_model_id))
    expected = fedavg(trainers, 1, learningRate=0.5, seed=3)[-1]
    np.testing.assert_allclose(result["w"], expected, atol=1e-6)


async def test_cancelled_in_the_first_round(server: RunningServer, val: ValServer) -> None:
    """Before the first round is committed there is nothing to store: no model is left behind."""
    trainers = {"ue-1": Pull(1.0)}
    trainers["ue-1"].gate.clear()
    async with ues(server, trainers) as clients:
        training = await begin(val, members=["ue-1"], objective=Objective())
        await eventually(trainers["ue-1"].fitting.is_set)
        await training.cancel()
        last = (await events_of(training))[-1]
        await eventually(lambda: hears_nothing_more(clients))
    assert (last.state, last.output_model_id) == ("CANCELLED", None)
    await eventually(lambda: _models_are(val, "digits"))


async def test_several_trainings_at_once(server: RunningServer, val: ValServer) -> None:
    """Trainings with the same clients do not disturb each other, and each ends with its own model."""
    trainers = three()
    async with ues(server, trainers) as clients:
        objective = Objective(max_epochs=2)
        first = await begin(val, members=NAMES, objective=objective, profile=FAST)
        second = await val.train(
            model_id="digits", dataset_ids=["digits"], members=NAMES, objective=objective
        )
        await reached(first, "COMPLETED")
        await reached(second, "COMPLETED")
        await eventually(lambda: hears_nothing_more(clients))
    expected = fedavg(trainers, 2, learningRate=0.5, seed=3)[-1]
    for training in (first, second):
        result = await val.download_model(str((await training.status()).output_model_id))
        np.testing.assert_allclose(result["w"], expected, atol=1e-6)


async def test_a_model_from_elsewhere(server: RunningServer, val: ValServer) -> None:
    """`mlModelLoc` names the first model's file, which is fetched from there; the result stays here."""
    trainers = three()
    first = np.full(4, 0.5, np.float32)
    async with Listener(default=_file(save({"w": first}))) as files, ues(server, trainers) as clients:
        training = await val.train(
            model_location=files.url("/model"),
            dataset_ids=["digits"],
            members=NAMES,
            objective=Objective(max_epochs=1),
        )
        last = (await events_of(training))[-1]
        await eventually(lambda: hears_nothing_more(clients))
    assert (last.state, [request.path for request in files.received]) == ("COMPLETED", ["/model"])
    result = await val.download_model(str(last.output_model_id))
    np.testing.assert_allclose(result["w"], mean_of_round(trainers, first, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a model at all", "the model cannot be trained"),
        (save({"w": START})[:-3], "the model cannot be trained"),
        (save({"w": np.full(4, np.nan, np.float32)}), "tensor 'w' has values that are not finite"),
        (bfloat16_file({"w": START}), "tensor 'w': dtype BF16 is not supported"),
        (None, "the model cannot be fetched from its mlModelLoc: the other side answered 404"),
    ],
    ids=["no model", "cut short", "not finite", "BF16", "not there"],
)
async def test_a_model_from_elsewhere_that_is_none(
    server: RunningServer, val: ValServer, content: bytes | None, words: str
) -> None:
    """A first model that is broken or not there fails the training, and the VAL server is told why."""
    trainers = {"ue-1": Pull(1.0)}
    answer = 404 if content is None else _file(content)
    async with Listener(default=answer) as files, ues(server, trainers) as clients:
        training = await val.train(model_location=files.url(), dataset_ids=["digits"], members=["ue-1"])
        last = (await events_of(training))[-1]
        await eventually(lambda: hears_nothing_more(clients))
    assert last.state == "FAILED"
    assert words in str(last.reason)
    assert not trainers["ue-1"].configs
    await eventually(lambda: _models_are(val))


async def test_a_model_where_nobody_may_be_called(val: ValServer) -> None:
    """An address that the server must not call is refused before anything begins."""
    for location in ("http://169.254.169.254/model", "file:///etc/passwd"):
        with pytest.raises(RequestRefused) as refused:
            await val.train(model_location=location, dataset_ids=["digits"], members=["ue-1"])
        assert refused.value.invalid_params[0].param.startswith("/modelInf/mlModelLoc")


async def test_a_schedule_that_begins_later(mongo_url: str, database: Database) -> None:
    """Nobody is asked before the interval of `opSchedule` begins, and the training runs when it does."""
    clock, trainers = ManualClock(), {"ue-1": Pull(1.0)}
    interval = (clock.now() + timedelta(hours=1), clock.now() + timedelta(hours=9))
    async with (
        serving(mongo_url, database, clock=clock) as server,
        val_server(server) as val,
        ues(server, trainers) as clients,
    ):
        training = await begin(val, members=["ue-1"], schedule=interval, objective=Objective(max_epochs=1))
        await reached(training, "SELECTING")
        clock.advance(3599)
        await training.status()
        assert not clients["ue-1"].status.client_sets
        clock.advance(1)
        assert (await events_of(training))[-1].state == "COMPLETED"
    assert len(trainers["ue-1"].configs) == 1


async def test_a_schedule_that_is_over(server: RunningServer, val: ValServer) -> None:
    """A training whose interval has passed fails and says so; an interval that ends before it begins is refused."""
    begins, ends = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
    last = (await events_of(await begin(val, members=["ue-1"], schedule=(begins, ends))))[-1]
    assert (last.state, last.reason) == ("FAILED", "the operational schedule is over")
    with pytest.raises(RequestRefused) as refused:
        await val.train(model_id="digits", dataset_ids=["digits"], members=["ue-1"], schedule=(ends, begins))
    assert refused.value.invalid_params[0].param == "/opSchedule"


def _file(content: bytes) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """What a file server answers."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type="application/octet-stream")

    return answer


async def _models_are(val: ValServer, *names: str) -> bool:
    """Whether the repository has exactly these models."""
    return [model.model_id for model in await val.find_models(model_criteria())] == list(names)

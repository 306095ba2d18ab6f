"""Trainings as a VAL server sees them: real server, real UEs, real notifications (TS 23.482 8.3, 8.20)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from aimle_client.errors import Conflict, NotFound, RequestRefused
from aimle_client.testing import RunningServer
from aimle_client.trainers.base import FitResult, Parameters
from aimle_client.val import (
    Objective,
    TrainingEvent,
    TrainingProfile,
    ValServer,
    member_criteria,
    model_criteria,
)
from ml_repository.database import Database
from tests.support import eventually
from tests.support_val import PARAMETERS, SERVICE, Approaching, criteria, serving, ues, val_server


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """The AIMLE server."""
    async with serving(mongo_url, database) as running:
        yield running


@pytest.fixture
async def val(server: RunningServer) -> AsyncIterator[ValServer]:
    """The first VAL server."""
    async with val_server(server) as client:
        yield client


async def test_a_training_from_selection_to_the_trained_model(server: RunningServer, val: ValServer) -> None:
    """Events tell of each round and of the end; the result is downloaded, and is better than the beginning."""
    await val.store_model("digits", PARAMETERS, access="PUBLICLY_AVAILABLE")
    async with ues(server, "ue-1", "ue-2"):
        chosen = await val.select(criteria(), req_num=2, min_num=2)
        training = await val.train(
            model_id="digits",
            client_set=chosen.client_set,
            dataset_ids=["digits"],
            objective=Objective(target=0.9, max_epochs=20),
            profile=TrainingProfile(learning_rate=0.1),
            member_updates=True,
        )
        async with asyncio.timeout(60):
            events = [event async for event in training.events()]
    members = [change for event in events for change in event.members]
    assert [change.selected for change in members] == [True, True]
    rounds = [event.round for event in events if event.round]
    assert rounds == list(range(1, len(rounds) + 1))
    last = events[-1]
    assert (last.state, last.percentage) == ("COMPLETED", 100)
    assert last.metrics["accuracy"] >= 0.9
    assert last.output["modelAccuracy"] == round(100 * last.metrics["accuracy"])
    assert last.output_model_id is not None
    parameters = await val.download_model(last.output_model_id)
    assert np.abs(parameters["weight"] - 1).mean() < np.abs(PARAMETERS["weight"] - 1).mean()
    status = await training.status()
    assert (status.state, status.output_model_id) == ("COMPLETED", last.output_model_id)
    assert [entry.samples for entry in status.history] == [20] * len(rounds)
    assert [known.training_id for known in await val.trainings()] == [training.id]
    better = await val.update_model("digits", accuracy=10, precision=10, recall=10)
    assert better.model_id == last.output_model_id


async def test_a_training_without_a_listener(server: RunningServer) -> None:
    """`wait` needs no listener, also through a handle that was made anew from the identifier."""
    async with val_server(server, listen=None) as val, ues(server, "ue-1"):
        await val.store_model("digits", PARAMETERS, services=[SERVICE])
        training = await val.train(
            model_id="digits", members=["ue-1"], dataset_ids=["digits"], objective=Objective(max_epochs=2)
        )
        with pytest.raises(RuntimeError, match="listen"):
            await anext(training.events())
        async with asyncio.timeout(60):
            status = await val.training(training.id).wait(poll=0.05)
    assert (status.state, status.round) == ("COMPLETED", 2)


async def test_a_training_is_cancelled(server: RunningServer, val: ValServer) -> None:
    """`cancel` ends a running training; the model so far is kept, and the clients are free again."""
    await val.store_model("digits", PARAMETERS, services=[SERVICE])
    async with ues(server, "ue-1", "ue-2") as clients:
        training = await val.train(
            model_id="digits", members=["ue-1", "ue-2"], dataset_ids=["digits"], objective=Objective()
        )
        events: list[TrainingEvent] = []
        async with asyncio.timeout(60):
            async for event in training.events():
                events.append(event)
                if event.round == 2:
                    await training.cancel()
        assert events[-1].state == "CANCELLED"
        assert events[-1].output_model_id is not None
        assert (await val.download_model(events[-1].output_model_id)).keys() == PARAMETERS.keys()
        assert (await training.cancel()).state == "CANCELLED"
        await eventually(lambda: not any(client.status.subscriptions for client in clients))


@pytest.mark.parametrize("who", ["members", "client_set", "criteria", "both"])
@pytest.mark.parametrize("again", [False, True], ids=["its own handle", "found again"])
async def test_a_training_that_waits_for_its_first_round_is_cancelled(
    server: RunningServer, val: ValServer, who: str, again: bool
) -> None:
    """However its members were named, and by whichever handle: a training that only looks for them ends."""
    await val.store_model("digits", PARAMETERS, services=[SERVICE])
    async with ues(server, "ue-1"):
        chosen = await val.select(criteria(), req_num=1)
        named: dict[str, dict[str, Any]] = {
            "members": {"members": ["ue-1", "nobody"]},
            "client_set": {"client_set": chosen.client_set},
            "criteria": {"criteria": member_criteria()},
            "both": {"client_set": chosen.client_set, "criteria": member_criteria()},
        }
        training = await val.train(model_id="digits", dataset_ids=["nobody has it"], **named[who])
        async with asyncio.timeout(20):
            await (val.training(training.id) if again else training).cancel()
            status = await training.wait(poll=0.05)
    assert (status.state, status.round, status.output_model_id) == ("CANCELLED", 0, None)


async def test_a_failed_training_has_no_result(server: RunningServer, val: ValServer) -> None:
    """Where nothing was stored the status names no model; why a client failed stands beside it, without its paths."""

    class Broken(Approaching):
        def fit(self, parameters: Parameters, config: Any) -> FitResult:
            raise OSError("the disk is full: '/home/me/my data/digits.npz'")

    await val.store_model("digits", PARAMETERS, services=[SERVICE])
    async with ues(server, "ue-1", trainer=Broken()):
        training = await val.train(model_id="digits", members=["ue-1"], dataset_ids=["digits"])
        async with asyncio.timeout(60):
            status = await training.wait(poll=0.05)
    assert (status.state, status.output_model_id) == ("FAILED", None)
    assert [(part.state, part.reason) for part in status.participants] == [
        ("ERRORED", "OSError: the disk is full: ...")
    ]


async def test_a_model_in_training_is_not_handed_out(server: RunningServer, val: ValServer) -> None:
    """The place of the result is found and is a conflict to download and to upload, with its cause."""
    await val.store_model("digits", PARAMETERS, services=[SERVICE])
    training = await val.train(model_id="digits", criteria=member_criteria(), dataset_ids=["digits"])
    assert (await training.status()).output_model_id is None
    assert repr(training) == f"<Training {training.id!r}>"
    (place,) = await val.find_models(model_criteria(phase="IN_TRAINING"))
    for attempt in (val.download_model(place.model_id), val.upload_model(place.model_id, PARAMETERS)):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.cause == "MODEL_IN_TRAINING"
        assert caught.value.detail
    await training.cancel()


async def test_the_end_is_noticed_although_no_notification_comes(server: RunningServer) -> None:
    """Where the server cannot reach the listener, `events` still ends: it looks at the status."""
    nowhere = "http://127.0.0.1:1"
    async with val_server(server, callback_url=nowhere) as val, ues(server, "ue-1"):
        await val.store_model("digits", PARAMETERS, services=[SERVICE])
        training = await val.train(
            model_id="digits", members=["ue-1"], dataset_ids=["digits"], objective=Objective(max_epochs=1)
        )
        async with asyncio.timeout(60):
            (event,) = [event async for event in training.events(check_every=0.1)]
        assert (event.state, event.percentage) == ("COMPLETED", 100)
        assert event.output_model_id is not None
        assert [again async for again in training.events()] == []


async def test_a_training_that_is_refused(server: RunningServer, val: ValServer) -> None:
    """Unknown models and sets are NotFound, and a contradiction is named."""
    with pytest.raises(NotFound):
        await val.train(model_id="nothing", members=["ue-1"], dataset_ids=["digits"])
    await val.store_model("digits", PARAMETERS, services=[SERVICE])
    with pytest.raises(NotFound) as caught:
        await val.train(model_id="digits", client_set="nothing", dataset_ids=["digits"])
    assert caught.value.cause == "CLIENT_SET_NOT_FOUND"
    with pytest.raises(RequestRefused) as refused:
        await val.train(model_id="digits", dataset_ids=["digits"])
    assert [wrong.param for wrong in refused.value.invalid_params] == ["/members"]
    with pytest.raises(ValueError, match="profile"):
        await val.train(
            model_location="http://m.example/m", dataset_ids=["digits"], profile=TrainingProfile()
        )


async def test_a_foreign_training_is_not_there(server: RunningServer, val: ValServer) -> None:
    """Another VAL server can neither look at a training nor cancel it."""
    await val.store_model("digits", PARAMETERS, services=[SERVICE])
    training = await val.train(model_id="digits", criteria=member_criteria(), dataset_ids=["digits"])
    async with val_server(server, "val-2") as other:
        for attempt in (other.training(training.id).status, other.training(training.id).cancel):
            with pytest.raises(NotFound) as caught:
                await attempt()
            assert caught.value.cause == "TRAINING_NOT_FOUND"
        assert await other.trainings() == []
    await training.cancel()

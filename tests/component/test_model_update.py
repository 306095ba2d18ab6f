"""ML model update (TS 23.482 8.21): a consumer says that a model got worse, and gets a better one."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aimle_client.errors import Conflict, NotFound, ServerUnavailable
from aimle_client.http import RetryPolicy
from aimle_client.val import Objective, TrainingProfile, TrainingStatus, ValServer
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support import eventually
from tests.support_training import Pull, begin, serving, ues
from tests.support_val import PARAMETERS
from tests.support_val import serving as serving_with_tokens
from tests.support_val import val_server as known_val_server

ONCE = RetryPolicy(attempts=1)
TWO_ROUNDS = Objective(max_epochs=2)


@pytest.fixture
def trainers() -> dict[str, Pull]:
    """One client, whose accuracy rises from round to round."""
    return {"ue-1": Pull(1.0)}


@pytest.fixture
async def val(mongo_url: str, database: Database, trainers: dict[str, Pull]) -> AsyncIterator[ValServer]:
    """A VAL server with a client; the server waits ten seconds for a retraining."""
    async with (
        serving(mongo_url, database, {"update.wait": 10.0}) as server,
        ValServer(server.url, retry=ONCE) as found,
        ues(server, trainers),
    ):
        yield found


async def trained(val: ValServer, **options: Any) -> TrainingStatus:
    """A training that made a model from `digits`."""
    profile = TrainingProfile(learning_rate=0.3)
    training = await begin(val, members=["ue-1"], objective=TWO_ROUNDS, profile=profile, **options)
    return await training.wait(0.05)


def made_from(base: str, accuracy: float, phase: str = "TRAINED") -> dict[str, Any]:
    """What an MLModel says of a training that made it from `base`."""
    measured = {"appSpecPerfData": json.dumps({"accuracy": accuracy})}
    return {"phaseInfo": {"phase": phase, "trainingInfo": {"baseModelId": base}, "observedPerf": measured}}


async def test_a_better_model_is_there(val: ValServer) -> None:
    """A newer model of the same line, with a better accuracy than was observed, is answered at once."""
    made = await trained(val)
    better = await val.update_model("digits", accuracy=40, precision=40, recall=40)
    assert better.model_id == made.output_model_id
    assert better.phase == "TRAINED"
    assert (await val.download_model(better.model_id))["w"].shape == (4,)
    assert len(await val.trainings()) == 1


async def test_the_training_is_run_again(val: ValServer) -> None:
    """Where nothing replaces a model that a training made, the training is run from it, and the result answered."""
    made = await trained(val)
    assert made.output_model_id is not None
    better = await val.update_model(made.output_model_id, accuracy=50, precision=50, recall=50)
    again, first = await val.trainings()
    assert (again.model_id, first.training_id) == (made.output_model_id, made.training_id)
    assert better.model_id == again.output_model_id
    assert again.history[-1].metrics["accuracy"] > made.history[-1].metrics["accuracy"]


async def test_as_the_training_was(val: ValServer, database: Database, trainers: dict[str, Pull]) -> None:
    """The training is run again with the profile and the weekly hours that it had."""
    weekly = {"daysOfWeek": [1, 2, 3, 4, 5, 6]}, {"daysOfWeek": [7]}
    today = next(days for days in weekly if Clock().now().isoweekday() in days["daysOfWeek"])
    made = await trained(val, schedule=today)
    assert made.output_model_id is not None
    await val.update_model(made.output_model_id)
    assert {config["learningRate"] for config in trainers["ue-1"].configs} == {0.3}
    again = await database["trainings"].find_one({"model_id": made.output_model_id})
    assert again is not None
    assert json.loads(again["request"]["opSchedule"]) == today


async def test_at_another_time(val: ValServer, database: Database) -> None:
    """The interval in which the training was to run is over, and does not keep it from being run again."""
    now = Clock().now()
    made = await trained(val, schedule=(now, now + timedelta(hours=1)))
    assert made.output_model_id is not None
    await val.update_model(made.output_model_id)
    again = await database["trainings"].find_one({"model_id": made.output_model_id})
    assert again is not None
    assert "opSchedule" not in again["request"]


async def test_many_ask_at_once(val: ValServer) -> None:
    """Requests that come together begin one retraining, and all get its result."""
    made = await trained(val)
    assert made.output_model_id is not None
    answers = await asyncio.gather(*(val.update_model(made.output_model_id) for _ in range(4)))
    assert len({answer.model_id for answer in answers}) == 1
    assert len(await val.trainings()) == 2


async def test_nothing_better_comes_of_it(val: ValServer) -> None:
    """A retraining that does not beat what was observed is no update; whoever asks again does not begin another."""
    made = await trained(val)
    assert made.output_model_id is not None
    for _ in range(2):
        with pytest.raises(Conflict, match="NO_UPDATE_AVAILABLE"):
            await val.update_model(made.output_model_id, accuracy=100, precision=100, recall=100)
    assert len(await val.trainings()) == 2


async def test_a_model_in_use_replaces_too(val: ValServer) -> None:
    """Of newer models of the same line the best is answered, be it TRAINED or DEPLOYED.

    Its accuracy may be one that we noted or the percentage of the standard.
    """
    best = made_from("old", 0, "DEPLOYED")
    best["phaseInfo"]["observedPerf"] = {"resourceAddr": 90}
    await val.store_model("old", PARAMETERS)
    await val.store_model("good", PARAMETERS, info=made_from("old", 0.7))
    await val.store_model("best", PARAMETERS, info=best)
    await val.store_model("without-bytes", info=made_from("old", 0.99))
    assert (await val.update_model("old", accuracy=60, precision=1, recall=1)).model_id == "best"
    assert (await val.update_model("good", accuracy=60, precision=1, recall=1)).model_id == "best"


async def test_a_long_retraining(mongo_url: str, database: Database, trainers: dict[str, Pull]) -> None:
    """A retraining that takes long is begun once; who asks meanwhile hears when to come back, and then gets it."""
    async with (
        serving(mongo_url, database, {"update.wait": 0.1}) as server,
        ValServer(server.url, retry=ONCE) as val,
        ues(server, trainers),
    ):
        made = await trained(val)
        assert made.output_model_id is not None
        trainers["ue-1"].gate.clear()
        for _ in range(2):
            with pytest.raises(ServerUnavailable) as told:
                await val.update_model(made.output_model_id)
            assert told.value.retry_after == 30
        assert len(await val.trainings()) == 2
        trainers["ue-1"].gate.set()
        again = val.training((await val.trainings())[0].training_id)
        await eventually(lambda: _ended(again))
        assert (await val.update_model(made.output_model_id)).model_id == (
            await again.status()
        ).output_model_id


async def _ended(training: object) -> bool:
    return bool((await training.status()).terminal)  # type: ignore[attr-defined]


async def test_nothing_to_be_done(val: ValServer) -> None:
    """A model that was not trained here and that nothing replaces stays as it is, and the answer says why."""
    await val.store_model("alone", PARAMETERS)
    with pytest.raises(Conflict, match="NO_UPDATE_AVAILABLE"):
        await val.update_model("alone")
    with pytest.raises(NotFound, match="ML_MODEL_NOT_FOUND"):
        await val.update_model("nope")


async def test_another_owners_model(mongo_url: str, database: Database) -> None:
    """A consumer gets no update of a model that it may not have."""
    async with (
        serving_with_tokens(mongo_url, database) as server,
        known_val_server(server) as mine,
        known_val_server(server, "val-2") as other,
    ):
        await mine.store_model("private", PARAMETERS, access="PRIVATE_USE_ONLY")
        with pytest.raises(NotFound, match="ML_MODEL_NOT_FOUND"):
            await other.update_model("private")
        await mine.store_model("shared", PARAMETERS, access="PUBLICLY_AVAILABLE")
        with pytest.raises(Conflict, match="NO_UPDATE_AVAILABLE"):
            await other.update_model("shared")


async def test_a_model_that_somebody_foists(mongo_url: str, database: Database) -> None:
    """A model that a third party calls better replaces nothing; the owner's does, for every consumer."""
    async with (
        serving_with_tokens(mongo_url, database) as server,
        known_val_server(server) as owner,
        known_val_server(server, "val-2") as stranger,
    ):
        await owner.store_model("shared", PARAMETERS, access="PUBLICLY_AVAILABLE")
        await stranger.store_model(
            "trojan", PARAMETERS, access="PUBLICLY_AVAILABLE", info=made_from("shared", 1.0)
        )
        with pytest.raises(Conflict, match="NO_UPDATE_AVAILABLE"):
            await owner.update_model("shared")
        readers = {"accessReq": "RESTRICTED", "valServerIds": ["ue-1", "val-9"]}
        await owner.store_model("better", PARAMETERS, access=readers, info=made_from("shared", 0.5))
        assert (await owner.update_model("shared")).model_id == "better"
        async with known_val_server(server, "ue-1") as consumer:
            found = await consumer.update_model("shared", accuracy=40, precision=40, recall=40)
        assert found.model_id == "better"
        assert found.info["storeDiscReqs"]["accessReqs"]["valServerIds"] == ["ue-1"]

"""ML model update (TS 23.482 8.21): a consumer says that a model got worse, and gets a better one."""

from collections.abc import AsyncIterator

import pytest

from aimle_client.errors import Conflict, NotFound, ServerUnavailable
from aimle_client.http import RetryPolicy
from aimle_client.val import Objective, TrainingProfile, TrainingStatus, ValServer
from ml_repository.database import Database
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


async def trained(val: ValServer) -> TrainingStatus:
    """A training that made a model from `digits`."""
    profile = TrainingProfile(learning_rate=0.3)
    training = await begin(val, members=["ue-1"], objective=TWO_ROUNDS, profile=profile)
    return await training.wait(0.05)


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

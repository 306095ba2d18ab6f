"""Requests for trainings: of which models, by whom, and what becomes of them (TS 23.482 8.3, table 8.3.3.1-1)."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from pymongo.errors import DuplicateKeyError

from aimle_client.val import ANY_MODEL, TrainingProfile, model_criteria
from aimle_server.hfl.training import Training
from aimle_server.procedures.model_training import ModelTraining
from aimle_server.settings import Hfl
from ml_repository.database import Database, Session
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_discovery import ModelDiscovery
from ml_repository.repository import Repository
from ml_repository.trainings import Holder
from sbi.auth import Caller
from tests.support import ManualClock, eventually
from tests.support_training_requests import GOOD, Asking, asking
from tests.support_val import PARAMETERS, SERVICE, criteria, ues, val_server


@pytest.fixture
async def ask(mongo_url: str, database: Database) -> AsyncIterator[Asking]:
    """One VAL server's requests."""
    async with asking(mongo_url, database) as found:
        yield found


async def test_models_that_cannot_be_trained(ask: Asking, tmp_path: Path) -> None:
    """Without bytes, ONNX, for other uses only, somebody else's, or in training: each says so."""
    await ask.val.store_model("empty", services=[SERVICE])
    (tmp_path / "onnx").write_bytes(bytes([0x08, 10, 0x3A, 0]))
    await ask.val.store_model("onnx", services=[SERVICE], info={"interopInfo": "ONNX"})
    await ask.val.upload_model("onnx", tmp_path / "onnx")
    await ask.val.store_model("for-inference", PARAMETERS, usages=["INFERENCE"])
    async with val_server(ask.server, "val-2") as other:
        await other.store_model("theirs", PARAMETERS, access="PRIVATE_USE_ONLY")
    async with ues(ask.server, "ue-1"):
        training = await ask.val.train(model_id="digits", members=["ue-1"], dataset_ids=["digits"])
        output = (await training.status()).output_model_id or f"digits.{training.id}"
        answers = {}
        for model in ("empty", "onnx", "for-inference", "theirs", output):
            status, problem = await ask.request(GOOD | {"modelInf": {"mlModelId": model}})
            answers[model] = (status, problem["cause"])
        await training.cancel()
    assert answers == {
        "empty": (400, "INVALID_MSG_FORMAT"),
        "onnx": (400, "INVALID_MSG_FORMAT"),
        "for-inference": (403, "ML_MODEL_USAGE"),
        "theirs": (404, "ML_MODEL_NOT_FOUND"),
        output: (409, "MODEL_IN_TRAINING"),
    }


async def test_another_owners_client_set(ask: Asking) -> None:
    """A client set is its owner's: for others there is none."""
    async with ues(ask.server, "ue-1"), val_server(ask.server, "val-2") as other:
        theirs = await other.select(criteria(), req_num=1)
    body = {name: value for name, value in GOOD.items() if name != "members"}
    status, problem = await ask.request(body | {"clientSetId": theirs.client_set})
    assert (status, problem["cause"]) == (404, "CLIENT_SET_NOT_FOUND")


async def test_requirements_choose_the_newest_model(ask: Asking) -> None:
    """Of the models that meet `modelReq` and can be trained, the one stored last is; the answer names it."""
    await ask.val.store_model("older", PARAMETERS, domain="IMAGE_RECOGNITION")
    await ask.val.store_model("newer", PARAMETERS, domain="IMAGE_RECOGNITION")
    await ask.val.store_model("empty", domain="IMAGE_RECOGNITION")
    requirements = model_criteria(ANY_MODEL, domain="IMAGE_RECOGNITION")
    body = {name: value for name, value in GOOD.items() if name != "modelInf"}
    status, answer = await ask.request(body | {"modelReq": requirements})
    assert (status, answer["modelId"]) == (200, "newer")
    status, problem = await ask.request(
        body | {"modelReq": model_criteria(ANY_MODEL, domain="SPEECH_RECOGNITION")}
    )
    assert (status, problem["cause"]) == (404, "ML_MODEL_NOT_FOUND")


async def test_requirements_that_no_model_can_be_trained_for(ask: Asking) -> None:
    """Where only models without bytes meet `modelReq` there is none; where one is in training, that is said."""
    await ask.val.store_model("empty", domain="IMAGE_RECOGNITION")
    body = {name: value for name, value in GOOD.items() if name != "modelInf"}
    body["modelReq"] = model_criteria(ANY_MODEL, domain="IMAGE_RECOGNITION")
    status, problem = await ask.request(body)
    assert (status, problem["cause"]) == (404, "ML_MODEL_NOT_FOUND")
    await ask.val.store_model("trained", PARAMETERS, domain="IMAGE_RECOGNITION")
    async with ues(ask.server, "ue-1"):
        training = await ask.val.train(model_id="trained", members=["ue-1"], dataset_ids=["digits"])
        await ask.val.store_model("trained-now", domain="IMAGE_RECOGNITION", phase="IN_TRAINING")
        body["modelReq"] = model_criteria(ANY_MODEL, domain="IMAGE_RECOGNITION", phase="IN_TRAINING")
        status, problem = await ask.request(body)
        await training.cancel()
    assert (status, problem["cause"]) == (409, "MODEL_IN_TRAINING")


async def test_a_training_that_cannot_be_stored(database: Database) -> None:
    """Where the training itself does not get into the database, neither does the place for its result."""
    clock, caller = ManualClock(), Caller("val-1", frozenset())
    stores = await Repository.open(database, clock, lambda: secrets.token_urlsafe(16))
    places = ModelArtifacts(
        stores.models,
        stores.storages,
        stores.artifacts,
        stores.discards,
        clock,
        lambda: "id",
        server_id="s",
        repository_id="r",
    )

    async def begin(training: Training, reserve: Callable[[Session], Awaitable[None]]) -> None:
        holder, now = Holder("h", ""), clock.now()
        await stores.trainings.add(training.to_document(), holder, now, now, reserve)

    procedure = ModelTraining(
        stores.models,
        ModelDiscovery(stores.models),
        stores.client_sets,
        stores.profiles,
        places,
        begin,
        lambda _: None,
        lambda: "t-1",
        Hfl(),
    )
    elsewhere = {"modelInf": {"mlModelLoc": {"uri": "http://models.example/m"}}}
    await database["trainings"].insert_one({"_id": "t-1"})
    with pytest.raises(DuplicateKeyError):
        await procedure.request(caller, GOOD | elsewhere)
    assert await database["models"].count_documents({}) == await database["storages"].count_documents({}) == 0
    await database["trainings"].delete_one({"_id": "t-1"})
    await procedure.request(caller, GOOD | elsewhere)
    assert await database["models"].count_documents({}) == 1


async def test_status_is_the_owners(ask: Asking) -> None:
    """A VAL server sees its own trainings, the latest first, and nobody else's."""
    ids = [(await ask.request(GOOD))[1]["trainingId"] for _ in range(2)]
    mine = await ask.val.trainings()
    assert [status.training_id for status in mine] == ids[::-1]
    assert [p.client_id for p in mine[0].participants] == ["ue-1"]
    async with val_server(ask.server, "val-2") as other:
        assert await other.trainings() == []
        with pytest.raises(Exception, match="TRAINING_NOT_FOUND"):
            await other.training_status(ids[0])


async def test_training_profiles(ask: Asking) -> None:
    """A profile is put, read and removed by its owner, for whom alone it counts."""
    put = await ask.val.put_training_profile("digits", TrainingProfile(strategy="FEDPROX", proximal_mu=0.5))
    assert (put.strategy, put.proximal_mu, put.local_epochs) == ("FEDPROX", 0.5, 1)
    assert await ask.val.get_training_profile("digits") == put
    async with val_server(ask.server, "val-2") as other:
        with pytest.raises(Exception, match="404"):
            await other.get_training_profile("digits")
    await ask.val.delete_training_profile("digits")
    with pytest.raises(Exception, match="404"):
        await ask.val.get_training_profile("digits")


async def test_a_request_without_an_address_for_news_runs(ask: Asking) -> None:
    """`notifUri` may be left out: the training runs all the same."""
    async with ues(ask.server, "ue-1"):
        _, answer = await ask.request(GOOD | {"trainObj": {"objType": "ACCURACY", "targetValue": 90}})
        status = await ask.val.training(answer["trainingId"]).wait(0.05)
    assert status.state == "COMPLETED"
    assert await ask.database["outbox"].count_documents({}) == 0


async def test_nobody_comes(mongo_url: str, database: Database) -> None:
    """Too few clients within the time for joining: the training fails, and says how many were needed."""
    async with asking(mongo_url, database, **{"hfl.join_timeout": 0.2}) as ask:
        _, answer = await ask.request(GOOD | {"members": ["ue-7", "ue-8"]})
        status = await ask.val.training(answer["trainingId"]).wait(0.05)
        assert (status.state, status.reason) == ("FAILED", "0 clients take part, 1 needed")
        await eventually(lambda: _one_model(database))


async def _one_model(database: Database) -> bool:
    """Whether the place for the result is gone again."""
    return await database["models"].count_documents({}) == 1

"""AIMLES_MLModelRetrieval over HTTP: models for whoever may and can use them (TS 23.482 8.2.2.2)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from aimle_server.apis import model_retrieval
from aimle_server.procedures.model_retrieval import ModelRetrieval
from aimle_server.services import SERVICES, Services
from ml_repository.database import Database
from ml_repository.keys import MODEL_DISCOVERY
from sbi.api import Api
from tests.support_models import PUBLIC, Repository, profile, repository, safetensors

RETRIEVE = "/aimles-mlmr/v1/retrieve"


@dataclass(frozen=True)
class OnlyRetrieval:
    """Of the server's services, the one that the tested API asks for."""

    retrieval: ModelRetrieval


@pytest.fixture
def registrations() -> dict[str, Any]:
    """What each subject has registered as an AIMLE client."""
    return {}


@pytest.fixture
async def repo(
    database: Database, tmp_path: Path, registrations: dict[str, Any]
) -> AsyncIterator[Repository]:
    """A running repository with the server's retrieval API."""

    async def registration_of(subject: str) -> Any:
        return registrations.get(subject)

    def add(app: web.Application) -> Api:
        services = OnlyRetrieval(ModelRetrieval(app[MODEL_DISCOVERY], registration_of))
        app[SERVICES] = cast(Services, services)
        return model_retrieval.API

    async with repository(database, tmp_path, add) as running:
        yield running


def registration(*operations: str, services: tuple[str, ...] = ("v1",)) -> dict[str, Any]:
    """AimleClientRegInfo of a client with one profile."""
    return {
        "aimleClientId": {"valUeId": "ue-1"},
        "suppProfiles": [
            {
                "clientProfile": {
                    "aimleClientUri": "http://ue-1.example.com",
                    "aimlOperations": list(operations),
                    "clientCap": {
                        "mlAppType": "FEDERATED_LEARNING",
                        "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE",
                    },
                },
                "suppServices": [{"valServiceId": service} for service in services],
            }
        ],
    }


async def retrieve(repo: Repository, criteria: Any = None, subject: str = "ue-1") -> tuple[int, Any]:
    """Status, and the models' ids or the cause."""
    body = {"modelSelCrit": criteria} if criteria else {}
    status, _, answer = await repo.call("POST", RETRIEVE, subject=subject, json=body)
    if status == 200:
        return 200, [model["mlModelId"] for model in answer["mlModels"]]
    return status, answer["cause"]


async def test_retrieval_leads_to_the_bytes(repo: Repository) -> None:
    """The endpoint in the answer is where the caller downloads the model."""
    await repo.store(profile("m1", storeDiscReqs=PUBLIC))
    content = safetensors()
    await repo.put_bytes("m1", content)
    _, _, answer = await repo.call("POST", RETRIEVE, subject="ue-1", json={})
    uri = f"{repo.root}/aimle-artifacts/v1/models/m1"
    assert answer == {"mlModels": [{"mlModelId": "m1", "mlMdlEndpoint": {"uri": uri}}]}
    assert await repo.get_bytes("m1", subject="ue-1") == (200, content)


async def test_a_model_elsewhere_is_handed_out_by_its_address(repo: Repository) -> None:
    """The endpoint of a model that lives elsewhere is the one its owner gave."""
    elsewhere = {"fqdn": "models.example.com"}
    await repo.store(profile("m1", storeDiscReqs=PUBLIC) | {"mlModelUri": elsewhere})
    _, _, answer = await repo.call("POST", RETRIEVE, subject="ue-1", json={})
    assert answer["mlModels"] == [{"mlModelId": "m1", "mlMdlEndpoint": elsewhere}]


async def test_criteria_narrow_the_answer(repo: Repository) -> None:
    """Only models that meet modelSelCrit are handed out; when none does, that is an error."""
    await repo.store(
        profile("m1", storeDiscReqs=PUBLIC, domain="IMAGE_RECOGNITION"),
        profile("m2", storeDiscReqs=PUBLIC),
    )
    for name in ("m1", "m2"):
        await repo.put_bytes(name, safetensors())
    anything = {"mlModelId": "*", "storeDiscReqs": {"duration": 0}}
    assert await retrieve(repo) == (200, ["m1", "m2"])
    assert await retrieve(repo, anything) == (200, ["m1", "m2"])
    assert await retrieve(repo, anything | {"domain": "IMAGE_RECOGNITION"}) == (200, ["m1"])
    assert await retrieve(repo, anything | {"domain": "CUSTOM"}) == (404, "ML_MODEL_NOT_FOUND")


async def test_only_those_who_may_have_a_model_get_it(repo: Repository) -> None:
    """A private model is retrieved by its owner alone."""
    await repo.store(profile("m1"))
    await repo.put_bytes("m1", safetensors())
    assert await retrieve(repo) == (404, "ML_MODEL_NOT_FOUND")
    assert await retrieve(repo, subject="owner") == (200, ["m1"])


async def test_a_model_without_bytes_is_not_handed_out(repo: Repository) -> None:
    """A profile alone is no model to retrieve."""
    await repo.store(profile("m1", storeDiscReqs=PUBLIC))
    assert await retrieve(repo) == (404, "ML_MODEL_NOT_FOUND")


async def test_models_in_training_are_not_handed_out_and_the_answer_says_so(repo: Repository) -> None:
    """While every model that would do is in training, the cause is MODEL_IN_TRAINING."""
    await repo.store(profile("m1", storeDiscReqs=PUBLIC), profile("m2", storeDiscReqs=PUBLIC))
    for name in ("m1", "m2"):
        await repo.put_bytes(name, safetensors())
    await repo.models.set_phase("m1", "IN_TRAINING")
    assert await retrieve(repo) == (200, ["m2"])
    await repo.models.set_phase("m2", "IN_RETRAINING")
    assert await retrieve(repo) == (409, "MODEL_IN_TRAINING")


@pytest.mark.parametrize(
    ("registered", "expected"),
    [
        (None, ["anything", "for v1", "for v2", "to infer", "to train"]),
        (registration("MODEL_TRAINING"), ["anything", "for v1", "to train"]),
        (registration("MODEL_INFERENCE", services=("v2",)), ["anything", "for v2", "to infer"]),
        (registration("MODEL_TRAINING", "MODEL_INFERENCE"), ["anything", "for v1", "to infer", "to train"]),
        (registration("MODEL_SPLIT", services=("v3",)), ["anything"]),
    ],
)
async def test_a_registered_client_gets_what_it_can_use(
    repo: Repository, registrations: dict[str, Any], registered: Any, expected: list[str]
) -> None:
    """For a registered AIMLE client, usages need an operation of its profile, and services one of its services."""
    models = {
        "anything": {},
        "for v1": {"valServiceIds": ["v1"]},
        "for v2": {"valServiceIds": ["v2", "v9"]},
        "to infer": {"usageReqs": {"usages": ["INFERENCE"]}},
        "to train": {"usageReqs": {"usages": ["TRAINING"]}},
    }
    profiles = [profile(name, storeDiscReqs=PUBLIC, **info) for name, info in models.items()]
    elsewhere = {"mlModelUri": {"fqdn": "models.example.com"}}
    await repo.store(*(entry | elsewhere for entry in profiles))
    registrations["ue-1"] = registered
    assert await retrieve(repo) == (200, expected)

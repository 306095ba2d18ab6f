"""Subscriptions to models at a whole server: told of what appears, changes and improves (TS 23.482 8.2.2.3)."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aimle_client.errors import NotFound
from aimle_client.testing import RunningServer
from aimle_client.val import Reporting, ValServer, model_criteria
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support import ManualClock, passing
from tests.support_training import serving, val_server
from tests.support_val import PARAMETERS, SERVICE
from tests.support_val import serving as serving_with_tokens
from tests.support_val import val_server as known_val_server


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server that takes every request."""
    async with serving(mongo_url, database) as running:
        yield running


def measured(accuracy: float, phase: str = "TRAINED") -> dict[str, Any]:
    """What an MLModel says of its training."""
    return {
        "phaseInfo": {
            "phase": phase,
            "observedPerf": {"appSpecPerfData": json.dumps({"accuracy": accuracy})},
        }
    }


async def store(val: ValServer, model_id: str, **options: Any) -> None:
    """A model for everybody."""
    await val.store_model(model_id, PARAMETERS, services=[SERVICE], access="PUBLICLY_AVAILABLE", **options)


async def test_models_that_appear(server: RunningServer) -> None:
    """Those that are there and those that come, once their bytes can be had, and none that was not asked for."""
    async with val_server(server) as val:
        await store(val, "early")
        subscription = await val.subscribe_models(model_criteria(services=[SERVICE]))
        events = subscription.events()
        first = await anext(events)
        assert list(first.models) == ["early"]
        assert first.models["early"] == f"{server.url}/aimle-artifacts/v1/models/early"
        await val.store_model("without-bytes", services=[SERVICE], access="PUBLICLY_AVAILABLE")
        await val.store_model(
            "of-another-service", PARAMETERS, services=["other"], access="PUBLICLY_AVAILABLE"
        )
        await store(val, "late")
        assert list((await anext(events)).models) == ["late"]
        await subscription.update(criteria=model_criteria(services=["other"]))
        assert list((await anext(events)).models) == ["of-another-service"]
        await subscription.cancel()
        with pytest.raises(NotFound):
            await subscription.cancel()


async def test_a_model_that_improves(server: RunningServer) -> None:
    """Told of again when it has become better, or its phase is another one; not when it has become worse."""
    async with val_server(server) as val:
        storage = await val.create_storage(_only("m", measured(0.5)))
        await val.upload_model("m", PARAMETERS)
        subscription = await val.subscribe_models(
            model_criteria("m"), expires=Clock().now() + timedelta(hours=1)
        )
        events = subscription.events()
        assert list((await anext(events)).models) == ["m"]
        for better in (measured(0.9), measured(0.9, "DEPLOYED")):
            await val.replace_storage(storage.storage_id, _only("m", better))
            assert list((await anext(events)).models) == ["m"]
        await val.replace_storage(storage.storage_id, _only("m", measured(0.1, "DEPLOYED")))
        await subscription.update(criteria=model_criteria("n"))
        await store(val, "n")
        assert list((await anext(events)).models) == ["n"], "nothing was told in between"


async def test_periodic_reports(mongo_url: str, database: Database) -> None:
    """Each period all models that match, those that were told of before too, and none where there is none."""
    clock = ManualClock()
    async with serving(mongo_url, database, clock=clock) as server, val_server(server) as val, passing(clock):
        criteria = model_criteria(services=[SERVICE])
        subscription = await val.subscribe_models(criteria, reporting=Reporting(periodic=1))
        events = subscription.events()
        await store(val, "a")
        for _ in range(2):
            assert set((await anext(events)).models) == {"a"}
        await store(val, "b")
        while set((await anext(events)).models) != {"a", "b"}:
            pass


async def test_a_report_at_once(server: RunningServer) -> None:
    """What there is, and nothing more: that was the only one."""
    async with val_server(server) as val:
        await store(val, "a")
        await store(val, "b")
        how = Reporting(once=True, at_once=True)
        subscription = await val.subscribe_models(reporting=how)
        assert [set(event.models) async for event in subscription.events()] == [{"a", "b"}]
        with pytest.raises(NotFound):
            await subscription.cancel()


def _only(model_id: str, info: dict[str, Any]) -> dict[str, Any]:
    """A storage with one model."""
    return {"mlModels": [{"mlModelInfo": {"mlModelId": model_id, **info}}]}


async def test_a_model_that_is_not_for_everybody(mongo_url: str, database: Database) -> None:
    """Nobody is told of what he may not have."""
    async with (
        serving_with_tokens(mongo_url, database) as running,
        known_val_server(running) as owner,
        known_val_server(running, "val-2") as stranger,
    ):
        subscription = await stranger.subscribe_models()
        await owner.store_model("private", PARAMETERS)
        await owner.store_model("public", PARAMETERS, access="PUBLICLY_AVAILABLE")
        assert list((await anext(subscription.events())).models) == ["public"]

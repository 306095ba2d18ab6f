"""A VAL server with the SDK that has subscribed to FL events: members, models, and whose it is (TS 23.482 8.5)."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aimle_client.errors import NotFound
from aimle_client.testing import RunningServer
from aimle_client.val import (
    FLEvents,
    fl_member,
    model_criteria,
)
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support_training import Pull, serving, ues, val_server
from tests.support_val import serving as serving_with_tokens
from tests.support_val import val_server as known_val_server

MODEL = "FL_MODEL_INFORMATION"
LATER = Clock().now() + timedelta(hours=1)


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server that takes every request."""
    async with serving(mongo_url, database) as running:
        yield running


def storage(accuracy: float, **info: Any) -> dict[str, Any]:
    """A storage with the model `m`, as a training has measured it."""
    observed = {"appSpecPerfData": json.dumps({"accuracy": accuracy})}
    model = {"mlModelId": "m", "phaseInfo": {"phase": "TRAINED", "observedPerf": observed}}
    return {"mlModels": [{"mlModelInfo": model | info}]}


async def test_members_that_come_and_go(server: RunningServer) -> None:
    """Each event says who; `members` is who is available; once cancelled it is gone."""
    async with val_server(server) as val:
        member = await val.register_fl_member(fl_member("val-1", group="group-1"))
        subscription = await val.subscribe_fl_events(model_criteria(), until=LATER)
        events = subscription.events()
        first = await anext(events)
        assert (first.name, subscription.members) == ("FL_MEMBER_AVAILABILITY", {"val-1"})
        assert [(news.member, news.type, news.entering) for news in first.news] == [
            ("val-1", "FL_CLIENT", True)
        ]
        async with ues(server, {"ue-1": Pull(1.0)}):
            await anext(events)
            assert subscription.members == {"val-1", "ue-1"}
        await anext(events)
        assert subscription.members == {"val-1"}
        await val.deregister_fl_member(member.configuration_id)
        last = await anext(events)
        assert [(news.member, news.entering) for news in last.news] == [("val-1", False)]
        await subscription.cancel()
        with pytest.raises(NotFound):
            await subscription.cancel()


async def test_a_model_that_is_accurate_enough(server: RunningServer) -> None:
    """Told of when it has come to that accuracy, and whenever it is another one that is enough."""
    async with val_server(server) as val:
        made = await val.create_storage(storage(0.5))
        subscription = await val.subscribe_fl_events(
            model_criteria("m"), until=LATER, events=FLEvents(MODEL, accuracy=80)
        )
        events = subscription.events()
        for unnoticed, accuracy in ((0.5, 0.9), (0.9, 0.95), (0.3, 0.85), (0.79, 0.8)):
            for measured in (unnoticed, accuracy):
                await val.replace_storage(made.storage_id, storage(measured))
            event = await anext(events)
            [news] = event.news
            assert (event.name, news.model, news.accuracy) == (MODEL, "m", 100 * accuracy)
            assert (news.member, news.type) == (None, "FL_CLIENT")


async def test_accuracies_that_are_none(server: RunningServer) -> None:
    """What a model says of itself may be nonsense: then it has no accuracy, and keeps nobody from the others."""
    async with val_server(server) as val:
        subscription = await val.subscribe_fl_events(
            model_criteria(), until=LATER, events=FLEvents(MODEL, accuracy=0)
        )
        for number, text in enumerate(("1.5", "-1", "NaN", "Infinity", "1" + 400 * "0", '"0.9"', "[]")):
            info = storage(0.0)["mlModels"][0]["mlModelInfo"] | {"mlModelId": f"nonsense-{number}"}
            info["phaseInfo"]["observedPerf"]["appSpecPerfData"] = f'{{"accuracy": {text}}}'
            await val.create_storage({"mlModels": [{"mlModelInfo": info}]})
        await val.create_storage(storage(0.9))
        [news] = (await anext(subscription.events())).news
        assert (news.model, news.accuracy) == ("m", 90)


async def test_whose_subscription(mongo_url: str, database: Database) -> None:
    """Nobody else sees or ends a subscription, and nobody is told of a model that he may not have."""
    async with (
        serving_with_tokens(mongo_url, database) as running,
        known_val_server(running) as owner,
        known_val_server(running, "val-2") as stranger,
    ):
        wanted = {"until": LATER, "events": FLEvents(MODEL, accuracy=0)}
        told = await stranger.subscribe_fl_events(model_criteria(), **wanted)
        own = await owner.subscribe_fl_events(model_criteria(), **wanted)
        await owner.create_storage(storage(0.9))
        assert [news.model for news in (await anext(own.events())).news] == ["m"]
        public = {"accessReqs": {"accessReq": "PUBLICLY_AVAILABLE"}}
        await owner.create_storage(storage(0.9, mlModelId="n", storeDiscReqs=public))
        assert [news.model for news in (await anext(told.events())).news] == ["n"]
        for method in ("GET", "DELETE"):
            with pytest.raises(NotFound):
                await stranger._connection.request(method, f"/mlr-fle/v1/subscriptions/{own.id}")
        await own.cancel()

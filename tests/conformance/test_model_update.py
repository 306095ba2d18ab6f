"""AIMLES_MLModelUpdate (TS 29.482 6.1.15; TS 23.482 8.21): a better model in place of one that got worse."""

from typing import Any

from support.behaviour import EveryOperation
from support.consumer import Request, unknown
from support.examples import model, store
from support.world import World

Json = Any

API = "AIMLES_MLModelUpdate"


def pair(world: World) -> tuple[Json, Json]:
    """A stored model, and a better one that was trained from it and stored later."""
    worse = model(phaseInfo={"phase": "TRAINED", "observedPerf": {"resourceAddr": 60}})
    store(world, worse)
    base = {"baseModelId": worse["mlModelId"]}
    better = model(
        interopInfo=worse["interopInfo"],
        phaseInfo={"phase": "TRAINED", "observedPerf": {"resourceAddr": 95}, "trainingInfo": base},
    )
    store(world, better)
    return worse, better


class TestEveryOperation(EveryOperation):
    """Of this API; whether a model has a successor is for the server to say."""

    api = API
    may_be_refused = ("RequestMLModelUpdate",)

    def request(self, name: str, world: World) -> Request:
        """For a model that has a better successor."""
        worse, _ = pair(world)
        return Request({"mlModelId": worse["mlModelId"]})


def test_unknown_model(world: World) -> None:
    """An error."""
    answer = world.val.call(API, "RequestMLModelUpdate", {"mlModelId": unknown()})
    assert 400 <= answer.status < 500, answer


def test_answer_is_another_model(world: World) -> None:
    """A server that has a successor for a model answers with the successor."""
    worse, better = pair(world)
    answer = world.val.call(API, "RequestMLModelUpdate", {"mlModelId": worse["mlModelId"]})
    if answer.status == 200 and "mlModelInformation" in answer.body:
        assert answer.body["mlModelInformation"]["mlModelId"] == better["mlModelId"], answer
    else:
        assert answer.status == 200 or answer.status in (404, 409, 501, 503), answer

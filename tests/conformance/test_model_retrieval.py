"""AIMLES_MLModelRetrieval (TS 29.482 6.1.13; TS 23.482 8.2): models, once or whenever there is a new one."""

from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request
from support.examples import model, store, wanted
from support.world import World

API = "AIMLES_MLModelRetrieval"

SUBSCRIBE = "CreateAimleMLModelRetrievalSubscription"


class TestOperations(EveryOperation, Lifecycle):
    """Of this API, and of retrieval subscriptions."""

    api = API
    collection = "/subscriptions"
    optional = ("modelSelCrit", {"mlModelId": "any", "interopInfo": "any"})

    def request(self, name: str, world: World) -> Request:
        """For a model that there is."""
        one = model()
        store(world, one)
        if name == "RetrieveMLModel":
            return Request({"modelSelCrit": wanted(one)})
        subscription = {"notifUri": world.inbox(API, SUBSCRIBE).uri, "modelSelCrit": wanted(one)}
        if name == SUBSCRIBE:
            return Request(subscription)
        made = world.val.call(API, SUBSCRIBE, subscription)
        assert made.status == 201, made
        other = {"notifUri": world.inbox(API, SUBSCRIBE).uri}
        bodies = {
            "UpdateIndAimleMLModelRetrievalSubscription": {**subscription, **other},
            "ModifyIndAimleMLModelRetrievalSubscription": other,
        }
        return Request(bodies.get(name), variables={"subscriptionId": made.location})


def test_matching_model_is_handed_out(world: World) -> None:
    """The model that was asked for, and no other."""
    one = model()
    store(world, one, model())
    answer = world.val.call(API, "RetrieveMLModel", {"modelSelCrit": wanted(one)})
    assert answer.status == 200, answer
    assert [found["mlModelId"] for found in answer.body["mlModels"]] == [one["mlModelId"]], answer


def test_nothing_that_matches_is_an_error(world: World) -> None:
    """An answer has at least one model, so none is an error."""
    answer = world.val.call(API, "RetrieveMLModel", {"modelSelCrit": wanted(model())})
    assert 400 <= answer.status < 500, answer


def test_model_for_private_use_is_not_handed_to_others(world: World) -> None:
    """As if there were none."""
    other = world.other
    one = model(storeDiscReqs={"accessReqs": {"accessReq": "PRIVATE_USE_ONLY"}})
    store(world, one)
    answer = other.call(API, "RetrieveMLModel", {"modelSelCrit": wanted(one)})
    assert 400 <= answer.status < 500, answer


def test_new_model_is_notified(world: World) -> None:
    """A model that meets the criteria and is stored after the subscription reaches the subscriber (8.2.2.4)."""
    inbox, one = world.inbox(API, SUBSCRIBE), model()
    made = world.val.call(API, SUBSCRIBE, {"notifUri": inbox.uri, "modelSelCrit": wanted(one)})
    assert made.status == 201, made
    store(world, one)
    inbox.wait(lambda body: one["mlModelId"] in [found["mlModelId"] for found in body.get("mlModels", [])])

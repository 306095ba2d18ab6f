"""The APIs of split operation: nodes, pipelines, events (TS 29.482, TS 24.560; TS 23.482 8.14.2)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request, fresh, wire
from support.examples import model, store
from support.listener import Inbox
from support.world import World

Json = Any

NODES, API = "AIMLES_SplitOpNodeRegistration", "Aimles_SplitOpPipeline"
EVENTS = "AIMLES_SplitOpEvent"

REFUSED = (400, 403, 404, 409)


def capability(model: str) -> Json:
    """SplitOpCapabilities of a node that trains a model."""
    return {"modelInfo": {"modelId": model, "modelVersion": "1", "suppOperation": ["TRAINING"]}}


def stages(uri: str, model: str) -> list[Json]:
    """The one StageInfo of a pipeline at one node."""
    end = {"uri": uri}
    return [{"stageId": "1", "headEp": end, "tailEp": end, "nodeOrder": [end], "mlModelId": model}]


def node_request(name: str, world: World) -> Request:
    """For a new node."""
    node = {"nodeInfo": {"uri": world.client().uri}, "sonRegCapability": capability(fresh("model"))}
    if name == "CreateAimleSplitOpNodeRegSubscription":
        return Request(node)
    made = world.val.call(NODES, "CreateAimleSplitOpNodeRegSubscription", node)
    assert made.status == 201, made
    other = {"sonRegCapability": capability(fresh("model"))}
    bodies = {
        "UpdateIndAimleSplitOpNodeRegSubscription": {**node, **other},
        "ModifyIndAimleSplitOpNodeRegSubscription": other,
    }
    return Request(bodies.get(name), variables={"configurationId": made.location})


def event_request(name: str, world: World) -> Request:
    """For a new subscription."""
    uri = world.inbox(EVENTS, "CreateAimleSplitOpEventSubscription").uri
    subscription = {
        "splitOpPipelineId": fresh("pipeline"),
        "splitOpEventId": "SPLIT_OP_PIPELINE_INFO",
        "notifUri": uri,
        "expTime": wire(world.val.now() + timedelta(hours=1)),
    }
    if name == "CreateAimleSplitOpEventSubscription":
        return Request(subscription)
    made = world.val.call(EVENTS, "CreateAimleSplitOpEventSubscription", subscription)
    assert made.status == 201, made
    other = {"notifUri": world.inbox(EVENTS, "CreateAimleSplitOpEventSubscription").uri}
    bodies = {
        "UpdateIndAimleSplitOpEventSub": {**subscription, **other},
        "ModifyIndAimleSplitOpEventSub": other,
    }
    return Request(bodies.get(name), variables={"subscriptionId": made.location})


class TestEveryOperationOfNodes(EveryOperation):
    """Of the nodes' API."""

    api = NODES

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return node_request(name, world)


class TestNode(Lifecycle):
    """Of nodes."""

    api = NODES
    collection = "/configurations"
    window = {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"}
    optional = ("timeValidity", window)

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return node_request(name, world)


class TestEveryOperationOfEvents(EveryOperation):
    """Of the events' API."""

    api = EVENTS

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return event_request(name, world)


class TestEventSubscription(Lifecycle):
    """Of subscriptions to events."""

    api = EVENTS
    collection = "/subscriptions"

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return event_request(name, world)


def split_inbox(world: World) -> Inbox:
    """An address for what nodes and others are told of pipelines."""
    return world.inbox(EVENTS, "CreateAimleSplitOpEventSubscription")


def a_node(world: World) -> tuple[Inbox, str, str]:
    """A registered node, the model that it runs, which is stored, and the node's configurationId."""
    node, one = split_inbox(world), model()
    store(world, one)
    body = {"nodeInfo": {"uri": node.uri}, "sonRegCapability": capability(one["mlModelId"])}
    made = world.val.call(NODES, "CreateAimleSplitOpNodeRegSubscription", body)
    assert made.status == 201, made
    return node, one["mlModelId"], made.location


def create_body(world: World, node: Inbox, runs: str) -> Json:
    """A SplitOpPipelineCreateReq."""
    stage = {"stageInfo": stages(node.uri, runs)}
    return {"requestorId": fresh("ue"), "notifUri": split_inbox(world).uri, "splitOpRequirements": stage}


def a_pipeline(world: World, node: Inbox, runs: str) -> tuple[str, str, Json]:
    """A new pipeline's requestId and splitOpPipelineId, and what it was asked for with."""
    body = create_body(world, node, runs)
    made = world.val.call(API, "SplitOpPipeCreate", body)
    assert made.status == 201, made
    return made.location, made.body.get("splitOpProfile", {}).get("splitOpPipelineId", made.location), body


class TestEveryOperationOfPipelines(EveryOperation):
    """Of the pipelines' API; what it finds or can build is for the server to say."""

    api = API
    may_be_refused = ("SplitOpPipeDiscovery", "SplitOpPipeUpdate", "SplitOpPipeModify")

    def request(self, name: str, world: World) -> Request:
        """With a node and a stored model of its own."""
        node, runs, _ = a_node(world)
        create = create_body(world, node, runs)
        if name == "SplitOpPipeDiscovery":
            return Request({"notifUri": create["notifUri"], "discFilters": create["splitOpRequirements"]})
        if name == "SplitOpPipeCreate":
            return Request(create)
        request_id, pipeline, _ = a_pipeline(world, node, runs)
        patch = {
            "notifUri": create["notifUri"],
            "splitOpPipelineId": pipeline,
            "splitOpPipelineInfo": {"subEventId": "UPDATED"},
        }
        bodies = {"SplitOpPipeUpdate": create, "SplitOpPipeModify": patch}
        return Request(bodies.get(name), variables={"requestId": request_id})


def subscribed(world: World, pipeline: str) -> Inbox:
    """Where a subscription to a pipeline is told."""
    inbox = split_inbox(world)
    body = {
        "splitOpPipelineId": pipeline,
        "splitOpEventId": "SPLIT_OP_PIPELINE_INFO",
        "notifUri": inbox.uri,
    }
    made = world.val.call(EVENTS, "CreateAimleSplitOpEventSubscription", body)
    assert made.status == 201, made
    return inbox


def sub_event(name: str) -> Callable[[Json], bool]:
    """Whether a SplitOpEventNotif is of this sub-event."""
    return lambda body: bool(body.get("splitOpPipelineInfo", {}).get("subEventId") == name)


def test_a_profile_is_what_was_asked_for(world: World) -> None:
    """The profile has the stages of the request, and their ends as its own (8.14.2.3)."""
    node, runs, _ = a_node(world)
    body = create_body(world, node, runs)
    made = world.val.call(API, "SplitOpPipeCreate", body)
    assert made.status == 201, made
    profile = made.body["splitOpProfile"]
    assert [stage["mlModelId"] for stage in profile["stageInfo"]] == [runs], made
    assert [stage["nodeOrder"] for stage in profile["stageInfo"]] == [[{"uri": node.uri}]], made
    assert profile["headEp"] == profile["stageInfo"][0]["headEp"], made
    assert profile["tailEp"] == profile["stageInfo"][-1]["tailEp"], made


def test_a_node_that_is_not_registered(world: World) -> None:
    """A pipeline of a node that nobody registered, or that has left, is refused (8.14.2.3)."""
    node, runs, configuration = a_node(world)
    stranger = create_body(world, split_inbox(world), runs)
    assert world.val.call(API, "SplitOpPipeCreate", stranger).status in REFUSED
    gone = {"variables": {"configurationId": configuration}}
    left = world.val.call(NODES, "UnsubscribeAimleSplitOpNodeRegSubscription", **gone)
    assert left.status == 204, left
    answer = world.val.call(API, "SplitOpPipeCreate", create_body(world, node, runs))
    assert answer.status in REFUSED, answer


def test_a_pipeline_is_discovered(world: World) -> None:
    """One that exists and whose stages are those wanted is found (8.14.2.2)."""
    node, runs, _ = a_node(world)
    _, pipeline, body = a_pipeline(world, node, runs)
    filters = {"notifUri": body["notifUri"], "discFilters": body["splitOpRequirements"]}
    answer = world.val.call(API, "SplitOpPipeDiscovery", filters)
    assert answer.status == 200, answer
    found = [profile["splitOpPipelineId"] for profile in answer.body.get("splitOpProfiles", ())]
    assert pipeline in found, answer


def test_subscribers_are_told(world: World) -> None:
    """Of a change of the pipeline, and of its end (8.14.2.5 to 8.14.2.7)."""
    node, runs, _ = a_node(world)
    request_id, pipeline, body = a_pipeline(world, node, runs)
    inbox, variables = subscribed(world, pipeline), {"requestId": request_id}
    body["splitOpRequirements"]["usageInfo"] = {"inputFreq": 1}
    changed = world.val.call(API, "SplitOpPipeUpdate", body, variables=variables)
    assert changed.status in (200, 204), changed
    told = inbox.wait(sub_event("UPDATED"))
    assert told["splitOpPipelineInfo"]["splitOpProfile"]["splitOpPipelineId"] == pipeline, told
    deleted = world.val.call(API, "SplitOpPipeDelete", variables=variables)
    assert deleted.status == 204, deleted
    inbox.wait(sub_event("DELETED"))

"""The APIs of split operation: nodes, pipelines, events (TS 29.482, TS 24.560; TS 23.482 8.14.2)."""

from datetime import timedelta
from typing import Any

from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request, fresh, wire
from support.world import World

Json = Any

NODES, PIPELINES = "AIMLES_SplitOpNodeRegistration", "Aimles_SplitOpPipeline"
EVENTS = "AIMLES_SplitOpEvent"


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


class TestEveryOperationOfPipelines(EveryOperation):
    """Of the pipelines' API; what it finds or can build is for the server to say."""

    api = PIPELINES
    may_be_refused = ("SplitOpPipeDiscovery", "SplitOpPipeUpdate", "SplitOpPipeModify")

    def request(self, name: str, world: World) -> Request:
        """With a node of its own."""
        uri, model, inbox = world.client().uri, fresh("model"), world.listener.file(b"")
        node = {"nodeInfo": {"uri": uri}, "sonRegCapability": capability(model)}
        assert world.val.call(NODES, "CreateAimleSplitOpNodeRegSubscription", node).status == 201
        stage = {"stageInfo": stages(uri, model)}
        create = {"requestorId": fresh("ue"), "notifUri": inbox, "splitOpRequirements": stage}
        if name == "SplitOpPipeDiscovery":
            return Request({"notifUri": inbox, "discFilters": stage})
        if name == "SplitOpPipeCreate":
            return Request(create)
        made = world.val.call(PIPELINES, "SplitOpPipeCreate", create)
        assert made.status == 201, made
        pipeline = made.body.get("splitOpProfile", {}).get("splitOpPipelineId", made.location)
        patch = {
            "notifUri": inbox,
            "splitOpPipelineId": pipeline,
            "splitOpPipelineInfo": {"subEventId": "UPDATED"},
        }
        bodies = {"SplitOpPipeUpdate": create, "SplitOpPipeModify": patch}
        return Request(bodies.get(name), variables={"requestId": made.location})

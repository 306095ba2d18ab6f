"""Bodies of requests for split operation."""

from typing import Any

from tests.contract.support_queries import OWNER, SPLIT_NODE


def bodies(model: str, notify: str) -> dict[str, Any]:
    """An example for each operation."""
    ever = {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"}
    split_node = {
        "nodeInfo": {"uri": notify},
        "sonRegCapability": {
            "modelInfo": {
                "modelId": model,
                "modelName": "a model",
                "modelVersion": "1",
                "suppOperation": ["MODEL_INFERENCE"],
            },
            "usageInfo": {"inputFreq": 10, "inputSize": 1000, "outputFreq": 10, "outputSize": 40},
        },
        "timeValidity": ever,
        "aimle": {"splitNodeUri": notify},
    }
    place = {"uri": SPLIT_NODE}
    stages = [
        {
            "stageId": "1",
            "numNodes": "1",
            "headEp": place,
            "tailEp": place,
            "nodeOrder": [place],
            "mlModelId": model,
        }
    ]
    usage = {"inputFreq": 1, "outputSize": 40}
    pipeline = {
        "requestorId": OWNER,
        "notifUri": notify,
        "splitOpRequirements": {
            "stageInfo": stages,
            "usageInfo": usage,
            "notificationTarget": {"fqdn": "val.example"},
            "aimle": {"multiClient": True},
        },
    }
    profile = {
        "splitOpPipelineId": "set later",
        "stageInfo": stages,
        "usageInfo": usage,
        "headEp": place,
        "tailEp": place,
    }
    split_events = {
        "splitOpPipelineId": "*",
        "splitOpEventId": "SPLIT_OP_AVAILABILITY",
        "reportReq": {"notifMethod": "PERIODIC", "repPeriod": 60, "immRep": True, "maxReportNbr": 2},
        "discFilters": {"stageInfo": stages, "usageInfo": usage, "minNodes": "1"},
        "assistInfo": {"achievableQoS": "a"},
        "expTime": "2100-01-01T00:00:00Z",
        "notifUri": notify,
        "suppFeat": "1",
    }
    return {
        "SplitOpPipeCreate": pipeline,
        "SplitOpPipeUpdate": pipeline,
        "SplitOpPipeModify": {
            "notifUri": notify,
            "splitOpPipelineId": "set later",
            "splitOpPipelineInfo": {"splitOpProfile": profile, "subEventId": "UPDATED"},
        },
        "JoinSplitOpPipeline": {"requestorId": OWNER},
        "SplitOpPipeDiscovery": {
            "notifUri": notify,
            "discFilters": {"stageInfo": stages, "usageInfo": usage, "minNodes": "1"},
        },
        "CreateAimleSplitOpEventSubscription": split_events,
        "UpdateIndAimleSplitOpEventSub": split_events,
        "ModifyIndAimleSplitOpEventSub": {"reportReq": {"notifMethod": "ONE_TIME"}},
        "CreateAimleSplitOpNodeRegSubscription": split_node,
        "UpdateIndAimleSplitOpNodeRegSubscription": split_node,
        "ModifyIndAimleSplitOpNodeRegSubscription": {"timeValidity": ever},
    }  # fmt: skip

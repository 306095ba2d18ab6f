"""Bodies of requests for FL members, and of those that hand tasks over."""

from typing import Any

from tests.contract.support_queries import ANY_MODEL, UE
from tests.support_val import SERVICE


def bodies(number: int, model: str, notify: str) -> dict[str, Any]:
    """An example for each operation; new identifiers have `number` in them."""
    ever = {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"}
    area = {"geographicAreas": [{"shape": "POINT", "point": {"lon": 7.1, "lat": 50.7}}]}
    hourly = {"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 3600, "immRep": False}}
    fl_events = {
        "flMbrInfo": {"flMbrId": UE, "flMbrType": "FL_CLIENT"},
        "notifUri": notify,
        "mlMdlInfo": {**ANY_MODEL, "valServiceIds": [SERVICE]},
        "evtInfo": {
            "evtId": "FL_MEMBER_AVAILABILITY",
            "evtType": {
                "availFlMbr": "AVAILABLE",
                "flMdlInfo": {
                    "accuracy": 90,
                    "timeSchedule": [{"daysOfWeek": [1, 2], "timeOfDayStart": "08:00:00Z"}],
                    "latency": 60,
                },
                "flMbrLdInfo": 50,
            },
        },
        "timeValidity": {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"},
        "energyReqs": {
            "energySource": "SOLAR",
            "energyTarget": {"minRatio": 60},
            "energyFormula": "MEDIAN",
            "energyChange": "ACTUAL",
        },
        "suppFeat": "1",
        "aimle": hourly,
    }
    plmn = {"mcc": "262", "mnc": "01", "nid": "0000000000A"}
    member = {
        "flMbrId": f"member-{number}",
        "flMbrSuppGrp": {
            "flGroupId": "group-1",
            "flMembers": [
                {
                    "flMemberId": "ue-1",
                    "flMemberAddr": {"valUeIpv4Addr": "192.0.2.1", "port": 80},
                    "flMemberInfo": {
                        "availability": "AVAILABLE",
                        "constraints": ["LIMITED_MEMORY"],
                        "role": "FL_CLIENT",
                    },
                }
            ],
        },
        "suppAimlRole": "FL_CLIENT",
        "flMbrCapability": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "LIMITED_RESOURCE_USAGE"},
        "flMbrVelocity": {
            "hSpeed": 50,
            "bearing": 90,
            "vSpeed": 1,
            "vDirection": "UPWARD",
            "hUncertainty": 5,
            "vUncertainty": 1,
        },
        "flMbrLocation": {"cellIds": ["cell-1"], **area},
        "flMbrAvailSch": [{"daysOfWeek": [1, 2], "timeOfDayStart": "08:00:00Z"}],
        "supMlModelId": [model],
        "areaValidity": area["geographicAreas"][0],
        "timeValidity": {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"},
        "allowedMno": [
            {"servingPlmn": plmn, "nonservingPlmns": [{"plmn": plmn, "permission": "FULL_CAPABILITIES"}]}
        ],
    }
    task = {
        "requestorId": {"valUeId": "set later"},
        "aimlTaskType": "MODEL_TRAINING",
        "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
        "timeValidity": ever,
    }
    return {
        "RegisterFLMember": member,
        "UpdateFLMember": member,
        "ModifyPartiallyFLMember": {"flMbrId": "set later", "supMlModelId": [model]},
        "SubFLEvents": fl_events,
        "UpdateFLEvents": fl_events,
        "ModifyPartiallyFLEvents": {"flMbrInfo": {"flMbrType": "FL_SERVER"}},
        "AimlTtAssist": {
            **task,
            "valServiceId": SERVICE,
            "aimlRmngTrainReq": {"reqRmngTrainResorce": "LIMITED_RESOURCE_USAGE", "reqRmngTrainIterNum": 5},
            "aimlImdInfo": {
                "aimlImdModel": {"reqRmngTrainIterNum": 5},
                "aimlUsedTrainTime": {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2020-01-01T00:00:05Z"},
                "usedTrainResource": "any",
                "usedTrainIterNum": 5,
            },
        },
        "CtldAimlTt": {**task, "aimlTaskTransferTime": ever},
        "HandOver": {"transferId": "t", "targetId": "ue-2", "iterations": 5, "reason": "low battery"},
        "AimlTaskTransf": {
            **task,
            "requestorId": "aimle-server",
            "sourceAimlId": {"valUeId": "ue-2"},
            "aimlTaskTransferTime": ever,
            "aimle": {"transferId": f"t-{number}", "trainingId": "t", "datasetId": "digits"},
        },
        "DirAimlTaskTransf": {**task, "requestorId": {"valUeId": "ue-2"}, "aimlTaskTransferTime": ever},
    }  # fmt: skip

"""Bodies of requests for AIMLE clients, and to them."""

from typing import Any

from tests.contract.support_queries import CRITERIA, OWNER, UE
from tests.support_val import SERVICE


def bodies(number: int, model: str, notify: str) -> dict[str, Any]:
    """An example for each operation; new identifiers have `number` in them."""
    area = {"geographicAreas": [{"shape": "POINT", "point": {"lon": 7.1, "lat": 50.7}}]}
    registration = {
        "aimleClientId": {"valUeId": f"ue-x{number}"},
        "suppProfiles": [
            {
                "clientProfile": {
                    "aimleClientUri": "http://127.0.0.1:9",
                    "aimlModelTypes": ["NEURAL_NETWORK"],
                    "aimlOperations": ["MODEL_INFERENCE"],
                    "clientCap": {
                        "mlAppType": "FEDERATED_LEARNING",
                        "rsrcUsageLvl": "LIMITED_RESOURCE_USAGE",
                    },
                    "availTimeSchedCfgs": [{"daysOfWeek": [1, 2], "timeOfDayStart": "08:00:00Z"}],
                    "availLocCfgs": [{"clientLoc": area}],
                    "dataSetAvail": {"dataSetIds": ["d"], "size": 10, "age": 1, "features": ["f"]},
                    "dataCap": ["RAW_DATA"],
                    "taskCaps": ["LOW_COMPUTE_CAPABILITY"],
                },
                "suppServices": [{"valServiceId": "val-x", "servPermLevel": "PREMIUM_RESOURCE_USAGE"}],
            }
        ],
        "suppFeat": "0",
    }
    reporting = {
        "reportingMode": "ONE_TIME",
        "reportingThrs": [{"measThrValues": {"dlDelay": 5}, "thrDirection": "CROSSED"}],
        "repTerminMode": "TIME_TRIGGERED",
        "termThrMode": "ANY_REACHED",
    }
    hourly = {"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 3600, "immRep": False}}
    selection = {"selCriteria": CRITERIA, "reqNum": 1, "notifUri": notify, "suppFeat": "1", "aimle": hourly}
    subscription = {
        "requesterId": OWNER,
        "notifUri": notify,
        "aimlMdlInfo": {"mlModelId": model, "mlModelLoc": {"uri": notify}},
        "dataId": "digits",
        "noDataSamp": 0,
        "notifReqs": {
            "reportingMode": "PERIODIC",
            "reportingPeriod": 60,
            "repTerminMode": "TIME_TRIGGERED",
            "expirationTimer": 3600,
        },
        "vaSrvId": SERVICE,
    }
    return {
        "RegAimleClient": registration,
        "UpdateAimleClientReg": {"regData": registration, "expTime": "2100-01-01T00:00:00Z"},
        "CreateAimleClSelSubscription": selection,
        "UpdateIndAimleClSelSubscription": selection,
        "ModifyIndAimleClSelSubscription": {"reqNum": 2},
        "Select": {"valSvcId": SERVICE, "clients": [UE], "minNum": 1, "suppFeat": "1"},
        "Request": {
            "valSvcId": SERVICE,
            "clients": [UE],
            "operId": {"taskId": f"task-{number}"},
            "operInfo": {
                "container": "c", "fetchUri": notify, "agrUri": notify, "assitInfo": {"maxConvTime": 60}
            },
            "operMode": "START",
            "confModes": [
                {"mode": "STOP", "measThrValues": {"accuracy": 99}, "thrDirection": "ASCENDING"}
            ],
            "operModeStatReport": {"servOperEvent": "OPERATION_TRANSITION"},
            "suppFeat": "1",
        },
        "ClientParticipation": {
            "requesterId": OWNER,
            "clientSetId": "set-1",
            "clientSetPart": "JOIN",
            "mlModelId": model,
            "schedAimlOperations": [{"aimlOperation": "MODEL_TRAINING"}],
            "dataSetReq": {"cap": {"dataType": "RAW"}},
            "serviceReq": {"valServId": SERVICE, "permLevel": "LIMITED"},
        },
        "AimleServOperReq": {
            "aimleServerId": "aimle-server",
            "servOpId": f"operation-{number}",
            "servOpMode": "START",
            "servOpInfo": {"mlMdlUri": notify, "mlMdAggregUri": notify, "maxConvgTime": 60},
            "servOpModeCfg": {"maxLatency": 5, "maxDurHour": 1, "modelAccuracy": 90},
            "servOpModeStatRptg": reporting,
        },
        "HFLTraningSubs": subscription,
        "UpdateHFLTrainingSubs": subscription,
        "ModifyHFLTrainingSubs": {"noDataSamp": 1},
        "OpenChannel": {"websockNotifConfig": {"requestWebsocketUri": True}},
    }  # fmt: skip

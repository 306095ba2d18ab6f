"""AIMLE clients as tests describe them: registrations on the wire, as stored, and criteria that find them."""

from typing import Any

from ml_repository.registrations import tags
from tests.support import START

Json = dict[str, Any]

SERVICE = "traffic-forecast"


def profile(**changes: Any) -> Json:
    """A whole AimleClientProfile; `changes` replace attributes, None removes one."""
    whole = {
        "aimleClientUri": "http://ue.example/api",
        "aimlModelTypes": ["NEURAL_NETWORK", "DECISION_TREE"],
        "aimlOperations": ["MODEL_TRAINING", "MODEL_INFERENCE"],
        "clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"},
        "dataSetAvail": {
            "dataSetIds": ["flows", "speeds"],
            "size": 5000,
            "age": 10,
            "features": ["hour", "road"],
        },
        "dataCap": ["RAW_DATA", "EXPLOATORY_DATA_ANALYSIS"],
        "taskCaps": ["HIGH_COMPUTE_CAPABILITY", "LOW_COSTS_PERFORMANCE"],
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def reg_info(
    client: str = "ue-1", *, service: str = SERVICE, level: str | None = None, **changes: Any
) -> Json:
    """An AimleClientRegInfo with one profile for one service."""
    services = [{"valServiceId": service} | ({"servPermLevel": level} if level else {})]
    return {
        "aimleClientId": {"valUeId": client},
        "suppProfiles": [{"clientProfile": profile(**changes), "suppServices": services}],
    }


def stored(info: Json, *, asked: int = 0, dropped: int = 0) -> Json:
    """The registration document of an AimleClientRegInfo, stated at START."""
    return {
        "_id": info["aimleClientId"]["valUeId"],
        "_registration": "r-1",
        "_stated": START,
        "_stats": {"asked": asked, "dropped": dropped},
        "_tags": tags(info),
        "regData": info,
    }


def criteria(app: Json | None = None, **changes: Any) -> Json:
    """ClientDiscCriteria that `reg_info()` fulfils; `app` and `changes` ask for more."""
    return {
        "serviceReq": {"valServId": SERVICE},
        "aimlOpers": ["MODEL_TRAINING"],
        "clientAppCap": {"appType": "FL", **(app or {})},
    } | changes

"""Bodies of requests for models and trainings."""

from typing import Any

from tests.contract.support_queries import ANY_MODEL
from tests.support_val import SERVICE


def bodies(number: int, model: str, notify: str) -> dict[str, Any]:
    """An example for each operation; new identifiers have `number` in them."""
    model_info = {
        "mlModelId": f"model-{number}",
        "adaeAnalyticsId": "GROUP_ROUTE",
        "mlModelSize": 1000,
        "valServiceIds": [SERVICE],
        "domain": "IMAGE_RECOGNITION",
        "phaseInfo": {
            "phase": "TRAINED",
            "observedPerf": {"resourceAddr": 90},
            "trainingInfo": {"dataVolume": 5, "freshness": "DAILY"},
            "contTrainInd": True,
        },
        "storeDiscReqs": {"duration": 3600, "accessReqs": {"accessReq": "PRIVATE_USE_ONLY"}},
        "usageReqs": {"usages": ["TRAINING"]},
    }
    storage = {"mlModels": [{"mlModelInfo": model_info}], "suppFeat": "0"}
    hourly = {"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 3600, "immRep": False}}
    retrieval = {"modelSelCrit": ANY_MODEL, "notifUri": notify, "suppFeat": "1", "aimle": hourly}
    return {
        "CreateMLModelsStorage": storage,
        "UpdateIndMLModelsStorage": storage,
        "ModifyIndMLModelsStorage": {"mlModelsAddresses": [{"uri": notify}]},
        "CreateAimleMLModelRetrievalSubscription": retrieval,
        "UpdateIndAimleMLModelRetrievalSubscription": retrieval,
        "ModifyIndAimleMLModelRetrievalSubscription": {"expTime": "2100-01-01T00:00:00Z"},
        "RetrieveMLModel": {"modelSelCrit": ANY_MODEL, "suppFeat": "1"},
        "RequestMLModelUpdate": {
            "mlModelId": model,
            "performanceDegradationInfo": {"recall": 1, "precision": 1, "accuracy": 1},
            "mlModelRetrievalEndpoint": {"uri": notify},
        },
        "RequestTrain": {
            "trnType": "TRAIN_HFL",
            "members": ["ue-nobody"],
            "modelInf": {"mlModelId": model},
            "trainObj": {"objType": "ACCURACY", "targetValue": 0.9, "maxEpochs": 1},
            "datasetId": ["digits"],
            "dataSamples": 10,
            "memUpdNotif": False,
            "notifUri": notify,
        },
        "PutTrainingProfile": {"strategy": "FEDPROX", "localEpochs": 2, "learningRate": 0.1, "seed": 1},
        "NotifyRound": {
            "vaSrvId": SERVICE,
            "hflTrngOut": {"modelAccuracy": 90},
            "hflTrngErr": "UNDERFITTING",
            "timestamp": "2030-01-01T00:00:00Z",
            "aimle": {"round": 1, "numSamples": 5, "metrics": {"accuracy": 0.9}, "load": 50},
        },
    }  # fmt: skip

"""A whole system to throw requests at: a server with tokens, an AIMLE client, and an example of each request."""

import base64
import io
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_client.testing import RunningServer, running_server
from aimle_client.ue import AimleClient
from aimle_server.apis import SERVED_APIS
from sbi.api import Api, Operation
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.contract.support_documents import name_of
from tests.support import Listener, ManualClock
from tests.support_models import safetensors
from tests.support_split_pipelines import node
from tests.support_task_transfer import Walk
from tests.support_val import SERVICE, ues

Json = Any

OWNER, STRANGER, UE = "val-1", "val-2", "ue-1"
SPLIT_NODE = "http://127.0.0.1:9/split-node"
"""A node that is registered for every model, and that nobody reaches."""

MAX_JSON = 64 * 1024
MAX_MODEL = 128 * 1024

_INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|aimle_server|aimle_client\.|ml_repository|\bsbi\b|schemas\."
    r"|marshmallow|mongo|motor|bson|E11000|<class|codec|object at 0x|set_int_max_str_digits",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Endpoint:
    """An operation and the API it belongs to."""

    api: Api
    operation: Operation

    @property
    def name(self) -> str:
        """Its name (`name_of`)."""
        return name_of(self.api, self.operation.operation_id)

    @property
    def path(self) -> str:
        """Template of its path, base path included."""
        return self.api.base_path + self.operation.path

    @property
    def variables(self) -> list[str]:
        """Names of the variables in its path; those that several APIs have carry the API's scope."""
        return [self._own(name) for name in self._names]

    def filled(self, values: Mapping[str, str]) -> str:
        """The path with these values of `variables`."""
        return self.path.format_map({name: values[self._own(name)] for name in self._names})

    @property
    def _names(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.operation.path)

    def _own(self, variable: str) -> str:
        own = f"{self.api.scope}/{variable}"
        return own if own in MAKERS else variable


ENDPOINTS = [Endpoint(api, operation) for api in (*SERVED_APIS, *CLIENT_APIS) for operation in api.operations]
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
WITH_BODY = [endpoint for endpoint in ENDPOINTS if endpoint.operation.body is not None]
MAKERS = {
    "channelId": "OpenChannel",
    "registrationId": "RegAimleClient",
    "storageId": "CreateMLModelsStorage",
    "configurationId": "AIMLES_FLMember.RegisterFLMember",
    "aimles-sonreg/configurationId": "CreateAimleSplitOpNodeRegSubscription",
    "aimles-splitopevent/subscriptionId": "CreateAimleSplitOpEventSubscription",
    "requestId": "SplitOpPipeCreate",
    "splitOpPipelineId": "SplitOpPipeCreate",
    "aimlec-hfl-trng/subscriptionId": "HFLTraningSubs",
    "aimles-mlmr/subscriptionId": "CreateAimleMLModelRetrievalSubscription",
    "aimles-sel/subscriptionId": "CreateAimleClSelSubscription",
    "mlr-fle/subscriptionId": "SubFLEvents",
}
"""The operations that make the resources of a variable."""
GUARDED = [endpoint for endpoint in ENDPOINTS if not endpoint.operation.capability]


def each(endpoints: list[Endpoint]) -> pytest.MarkDecorator:
    """Run the test for each of these operations."""
    return pytest.mark.parametrize("endpoint", endpoints, ids=lambda endpoint: endpoint.name)


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers, text of the body."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Json:
        """The body's JSON."""
        return json.loads(self.text)

    @property
    def invalid(self) -> list[str]:
        """What the ProblemDetails names in invalidParams."""
        return [entry["param"] for entry in self.body.get("invalidParams", [])]


def assert_problem(answer: Answer, status: int, *, has_body: bool = True) -> None:
    """An error answer as all have to be: ProblemDetails of this status, and nothing internal."""
    assert answer.status == status, answer
    if not has_body:
        return
    assert answer.headers["Content-Type"].partition(";")[0] == "application/problem+json", answer
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert not _INTERNALS.search(answer.text), answer.text


@dataclass
class World:
    """The running system.

    Attributes:
        ids: a resource of OWNER for each variable of a path.
        key: signs the tokens that everybody here accepts.
    """

    server: RunningServer
    client: AimleClient
    session: aiohttp.ClientSession
    listener: Listener
    key: Any
    ids: dict[str, str] = field(default_factory=dict)
    _registered: dict[str, Json] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def token(
        self,
        scopes: list[str],
        subject: str = OWNER,
        *,
        audience: str = "aimle",
        age: float = 0,
        key: Any = None,
    ) -> str:
        """A token that is valid for an hour from `age` seconds ago."""
        clock = ManualClock(Clock().now() - timedelta(seconds=age))
        return TokenIssuer(key or self.key, "aimle", audience, 3600, clock).issue(subject, scopes)[0]

    def url(self, endpoint: Endpoint, ids: Mapping[str, str] | None = None) -> str:
        """Its URL with these variables in the path, or with those of resources that there are."""
        root = self.client.status.uri if endpoint.api in CLIENT_APIS else self.server.url
        return root + endpoint.filled({**self.ids, **(ids or {})})

    async def send(self, method: str, url: str, **options: Any) -> Answer:
        """A plain request."""
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            text = "" if response.status == 101 else await response.text(errors="replace")
            return Answer(response.status, response.headers, text)

    async def call(
        self,
        endpoint: Endpoint,
        body: Json = None,
        *,
        ids: Mapping[str, str] | None = None,
        subject: str = OWNER,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """The operation's request with the caller's token and the right content type; `data` instead of a body."""
        sent = {"Authorization": f"Bearer {self.token([endpoint.api.scope], subject)}"}
        if endpoint.operation.body is not None:
            sent["Content-Type"] = endpoint.operation.content_type
            data = json.dumps(body).encode() if data is None else data
        url = self.url(endpoint, ids)
        return await self.send(
            endpoint.operation.method,
            url,
            params=query,
            data=None if data is None else io.BytesIO(data),
            headers={**sent, **(headers or {})},
        )

    async def example(
        self, endpoint: Endpoint, ids: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """A request that is right in every way."""
        options.setdefault("query", QUERIES.get(endpoint.name))
        if 101 in endpoint.operation.answers:
            options.setdefault("headers", UPGRADE)
        if endpoint.operation.streams and endpoint.operation.method == "PUT":
            options.setdefault("data", safetensors(10))
        return await self.call(endpoint, self.body(endpoint.name, ids), ids=ids, **options)

    def body(self, name: str, ids: Mapping[str, str] | None = None) -> Json:
        """An example of an operation's body, with identifiers that are new each time; None: it has none."""
        number = next(self._numbers)
        model, notify = self.ids.get("mlModelId", "none"), self.listener.url(f"/notify/{number}")
        name = name.rpartition(".")[2]
        body = bodies(number, model, notify).get(name)
        ids = {**self.ids, **(ids or {})}
        if name == "UpdateAimleClientReg":
            body["regData"]["aimleClientId"] = self._registered.get(
                ids["registrationId"], {"valUeId": "nobody"}
            )
        if name == "SplitOpPipeModify":
            body["splitOpPipelineId"] = ids["requestId"]
            body["splitOpPipelineInfo"]["splitOpProfile"]["splitOpPipelineId"] = ids["requestId"]
        if name in ("AimlTtAssist", "CtldAimlTt"):
            body["requestorId"] = self._registered[self.ids["registrationId"]]
        if name in ("UpdateFLMember", "ModifyPartiallyFLMember"):
            body["flMbrId"] = self._registered.get(ids["configurationId"], "nobody")
        return body

    async def fresh(self, variable: str) -> str:
        """A new resource of OWNER for a variable of a path: its id."""
        if variable in MAKERS:
            answer = await self.example(BY_NAME[MAKERS[variable]])
            assert answer.status == 201, answer
            made: str = answer.headers["Location"].rpartition("/")[2]
            of_client = answer.body.get("regData", {}).get("aimleClientId")
            self._registered[made] = answer.body.get("flMbrId", of_client)
            return made
        match variable:
            case "mlModelId":
                return await self._fresh_model()
            case "transferId":
                return str((await self.example(BY_NAME["AimlTtAssist"])).body["aimle"]["transferId"])
            case "trainingId":
                return str((await self.example(BY_NAME["RequestTrain"])).body["trainingId"])
        return {"key": "no-such-key", "round": "1"}[variable]

    async def _fresh_model(self) -> str:
        body = self.body("CreateMLModelsStorage")
        model: str = body["mlModels"][0]["mlModelInfo"]["mlModelId"]
        better = {
            "phase": "TRAINED",
            "observedPerf": {"appSpecPerfData": '{"accuracy": 0.9}'},
            "trainingInfo": {"baseModelId": model},
        }
        elsewhere = {"uri": self.listener.url("/model")}
        newer = {"mlModelUri": elsewhere, "mlModelInfo": {"mlModelId": f"{model}.newer", "phaseInfo": better}}
        ids = {"mlModelId": model}
        for name, content in (
            ("CreateMLModelsStorage", body),
            ("CreateMLModelsStorage", {"mlModels": [newer]}),
            ("PutTrainingProfile", {"localEpochs": 1}),
        ):
            assert (await self.call(BY_NAME[name], content, ids=ids)).status in (200, 201)
        stored = await self.call(BY_NAME["PutModelArtifact"], ids=ids, data=safetensors(10))
        assert stored.status == 204, stored
        return model


@asynccontextmanager
async def world(
    mongo_url: str, name: str, folder: Path, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[World]:
    """A system whose server keeps its documents in the database `name`; `changes` are settings of that server."""
    settings = {
        "database.url": mongo_url,
        "database.name": name,
        "auth.key_file": str(folder / "key.pem"),
        "server.max_json_bytes": MAX_JSON,
        "server.max_model_bytes": MAX_MODEL,
        "hfl.participation_timeout": 0.5,
        "hfl.call_timeout": 1.0,
        "hfl.join_timeout": 0.5,
        "update.wait": 0.0,
        **(changes or {}),
    }
    async with (
        running_server(settings, clients=[OWNER, UE]) as server,
        ues(server, UE, trainer=Walk()) as [client],
        aiohttp.ClientSession() as session,
        Listener() as listener,
    ):
        made = World(server, client, session, listener, load_or_create_key(folder / "key.pem"))
        every = node(SPLIT_NODE, "*")
        registered = await made.call(BY_NAME["CreateAimleSplitOpNodeRegSubscription"], every)
        assert registered.status == 201, registered
        for variable in (
            "mlModelId",
            *sorted({name for endpoint in ENDPOINTS for name in endpoint.variables}),
        ):
            made.ids[variable] = made.ids.get(variable) or await made.fresh(variable)
        yield made


CRITERIA = {
    "serviceReq": {"valServId": SERVICE, "permLevel": "STANDARD"},
    "aimlOpers": ["MODEL_TRAINING"],
    "clientAppCap": {"appType": "FL"},
    "datasetReq": {"avail": {"ids": ["digits"]}},
}
ANY_MODEL = {"mlModelId": "*", "storeDiscReqs": {"duration": 0}}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}
QUERIES = {
    "GetAimleClients": {"filt-criteria": json.dumps(CRITERIA), "cl-number": "5", "supported-features": "1"},
    "GetMlModelInfo": {"filt-criteria": json.dumps(ANY_MODEL), "supported-features": "1"},
    "GetMLModelsStorages": {"supp-feats": "0"},
}


def bodies(number: int, model: str, notify: str) -> dict[str, Json]:
    """An example of each operation's body; `number` makes identifiers new, `model` is a model that there is."""
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
    reporting = {
        "reportingMode": "ONE_TIME",
        "reportingThrs": [{"measThrValues": {"dlDelay": 5}, "thrDirection": "CROSSED"}],
        "repTerminMode": "TIME_TRIGGERED",
        "termThrMode": "ANY_REACHED",
    }
    hourly = {"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 3600, "immRep": False}}
    retrieval = {"modelSelCrit": ANY_MODEL, "notifUri": notify, "suppFeat": "1", "aimle": hourly}
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
        "timeValidity": member["timeValidity"],
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
    ever = {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"}
    task = {
        "requestorId": {"valUeId": "set later"},
        "aimlTaskType": "MODEL_TRAINING",
        "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
        "timeValidity": ever,
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
        "ModifyIndAimleSplitOpNodeRegSubscription": {"timeValidity": member["timeValidity"]},
        "OpenChannel": {"websockNotifConfig": {"requestWebsocketUri": True}},
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
        "RegisterFLMember": member,
        "UpdateFLMember": member,
        "ModifyPartiallyFLMember": {"flMbrId": "set later", "supMlModelId": [model]},
        "SubFLEvents": fl_events,
        "UpdateFLEvents": fl_events,
        "ModifyPartiallyFLEvents": {"flMbrInfo": {"flMbrType": "FL_SERVER"}},
        "RegAimleClient": registration,
        "UpdateAimleClientReg": {"regData": registration, "expTime": "2100-01-01T00:00:00Z"},
        "CreateAimleClSelSubscription": selection,
        "UpdateIndAimleClSelSubscription": selection,
        "ModifyIndAimleClSelSubscription": {"reqNum": 2},
        "Select": {"valSvcId": SERVICE, "clients": [UE], "minNum": 1, "suppFeat": "1"},
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
        "PutTrainingProfile": {"strategy": "FEDPROX", "localEpochs": 2, "learningRate": 0.1, "seed": 1},
        "NotifyRound": {
            "vaSrvId": SERVICE,
            "hflTrngOut": {"modelAccuracy": 90},
            "hflTrngErr": "UNDERFITTING",
            "timestamp": "2030-01-01T00:00:00Z",
            "aimle": {"round": 1, "numSamples": 5, "metrics": {"accuracy": 0.9}, "load": 50},
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
    }  # fmt: skip

"""A whole story over every operation: each answer and each notification is what the documents say."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import ValidationError

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_client.apis import NODE_APIS
from aimle_client.testing import RunningServer
from aimle_client.ue import AimleClient
from aimle_server.apis import ALL_APIS
from ml_repository.database import Database
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.contract.support_answers import Caller, Judge, PlainClient, in_two_parts
from tests.contract.support_documents import name_of
from tests.support import eventually
from tests.support_clients import criteria, reg_info
from tests.support_fl_events import event
from tests.support_fl_events import subscription as fl_subscription
from tests.support_fl_members import fl_mbr, whole_fl_mbr
from tests.support_models import safetensors
from tests.support_split_pipelines import node as split_node
from tests.support_split_pipelines import stage
from tests.support_task_transfer import START, Walk
from tests.support_val import SERVICE, serving, ues

Json = Any

PLAIN = "plain"
"""An AIMLE client that knows the standard and none of our extensions."""

ANOTHER = "plain-2"
"""One at the same address, which takes the first one's task over."""

CRITERIA = criteria({"avail": [{"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "23:59:59Z"}]})
ANY = {"storeDiscReqs": {"duration": 0}}
EVER = {"startTime": "2020-01-01T00:00:00.000Z", "stopTime": "2100-01-01T00:00:00.000Z"}


@pytest.fixture
async def server(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """The AIMLE server."""
    settings = {"auth.key_file": str(tmp_path / "key.pem"), "update.wait": 10.0}
    async with serving(mongo_url, database, settings=settings) as running:
        yield running


@pytest.fixture
async def caller(server: RunningServer, tmp_path: Path) -> AsyncIterator[Caller]:
    """A VAL server's calls."""
    issuer = TokenIssuer(load_or_create_key(tmp_path / "key.pem"), "aimle", "aimle", 3600, Clock())
    async with aiohttp.ClientSession() as session:
        yield Caller(Judge.of_all_documents(), session, issuer)


async def test_every_operation_answers_as_documented(server: RunningServer, caller: Caller) -> None:
    """Over a whole story, every operation's answer, request and notification are those of the documents."""
    plain = PlainClient(caller)
    async with plain.serving(), ues(server, "ue-1") as [ue]:
        await _tokens(caller, server)
        await _registrations(caller, server.url, plain.url)
        await _fl_members(caller, server.url)
        storage = await _models(caller, server.url)
        await _split_operation(caller, server.url, plain)
        await _a_selection(caller, server.url, plain)
        await _new_models(caller, server.url, plain)
        await _fl_events(caller, server.url, plain)
        await _a_training(caller, server.url, plain)
        await _operations_of_a_client(caller, ue, plain)
        await _a_channel(caller, server.url)
        async with ues(server, "ue-2", trainer=Walk()) as [other]:
            await _a_task_for_a_client(caller, other)
        await _clean_up(caller, server.url, storage)
    assert plain.problems == []
    documented = {name for name, known in caller.judge.own.items() if "callbacks" in known.operation}
    apis = [api for api in ALL_APIS if api not in NODE_APIS]
    every = {name_of(api, operation.operation_id) for api in apis for operation in api.operations}
    assert caller.judge.seen == every
    assert caller.judge.notified == documented
    assert documented == {
        "RequestTrain",
        "HFLTraningSubs",
        "CreateAimleClSelSubscription",
        "CreateAimleMLModelRetrievalSubscription",
        "CreateAimleSplitOpEventSubscription",
        "SubFLEvents",
    }


async def _tokens(caller: Caller, server: RunningServer) -> None:
    form = {"grant_type": "client_credentials", "scope": "aimles-disc"}
    basic = {"Authorization": server.credentials["val-1"].basic()}
    async with caller.session.post(f"{server.url}/oauth2/token", data=form, headers=basic) as response:
        caller.judge.answer("IssueToken", response.status, await response.json())
    await caller.call("GET", f"{server.url}/oauth2/jwks")


async def _registrations(caller: Caller, root: str, uri: str) -> None:
    """A client registers, is found, renews; another one leaves. No feature is supported, and that is said."""
    collection = f"{root}/aimles-client-reg/v1/registrations"
    info = reg_info(PLAIN, service=SERVICE, aimleClientUri=uri) | {"suppFeat": "3"}
    registered, headers = await caller.call("POST", collection, info)
    assert registered["regData"] == info | {"suppFeat": "0"}
    renewed, _ = await caller.call("PUT", headers["Location"], {"regData": info})
    assert renewed["regData"] == registered["regData"]
    plainly = {name: value for name, value in info.items() if name != "suppFeat"}
    renewed, _ = await caller.call("PUT", headers["Location"], {"regData": plainly})
    assert renewed["regData"] == plainly
    _, headers = await caller.call("POST", collection, reg_info("leaving", aimleClientUri=uri))
    await caller.call("DELETE", headers["Location"])
    clients = f"{root}/aimles-disc/v1/clients"
    wanted = json.dumps(
        {**CRITERIA, "serviceReq": {"valServId": SERVICE}, "clientTaskCap": {"compCap": "HIGH"}}
    )
    found, _ = await caller.call("GET", clients, params={"filt-criteria": wanted, "supported-features": "1"})
    assert (found["clients"], found["suppFeats"]) == ([PLAIN], "0")
    nobody = json.dumps({**CRITERIA, "serviceReq": {"valServId": "no-such-service"}})
    assert (await caller.call("GET", clients, params={"filt-criteria": nobody}))[0] == {"clients": []}


async def _fl_members(caller: Caller, root: str) -> None:
    """An FL member registers with all that it can state, changes and leaves, by each of the two APIs."""
    for base in ("aimles-flreg", "mlr-fl"):
        made, headers = await caller.call("POST", f"{root}/{base}/v1/configurations", whole_fl_mbr())
        assert made == whole_fl_mbr()
        patch = {"flMbrId": made["flMbrId"], "supMlModelId": ["model-3"]}
        assert (await caller.call("PATCH", headers["Location"], patch))[0] == made | patch
        assert (await caller.call("PUT", headers["Location"], fl_mbr()))[0] == fl_mbr()
        await caller.call("DELETE", headers["Location"])


async def _split_operation(caller: Caller, root: str, plain: PlainClient) -> None:
    """A node registers, a pipeline is made of it, found, changed and deleted; node, requestor and others are told."""
    name = "CreateAimleSplitOpEventSubscription"
    uri = f"{plain.url}/notify/{name}"
    node = split_node(uri, "digits")
    _, there = await caller.call("POST", f"{root}/aimles-sonreg/v1/configurations", node)
    assert (await caller.call("GET", there["Location"]))[0] == node
    wanted = {
        "splitOpPipelineId": "*", "splitOpEventId": "SPLIT_OP_PIPELINE_INFO", "notifUri": uri, "suppFeat": "1"
    }  # fmt: skip
    made, headers = await caller.call("POST", f"{root}/aimles-splitopevent/v1/subscriptions", wanted)
    assert made == wanted | {"suppFeat": "0"}
    assert (await caller.call("GET", headers["Location"]))[0] == made
    stages = [stage(uri, model="digits")]

    async def told(**expected: int) -> None:
        await eventually(lambda: _sub_events(plain.news(name)) == expected)

    await _a_pipeline(caller, f"{root}/aimles-sopl/v1", stages, uri, told)
    available = {"splitOpEventId": "SPLIT_OP_AVAILABILITY", "discFilters": {"stageInfo": stages}}
    await caller.call("PATCH", headers["Location"], available)
    await eventually(lambda: plain.news(name)[-1].get("availabilityInfo") == {"availableNodes": uri})
    await caller.call("PUT", headers["Location"], wanted)
    await caller.call("DELETE", headers["Location"])
    patch = {"timeValidity": {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"}}
    assert (await caller.call("PATCH", there["Location"], patch))[0] == node | patch
    assert (await caller.call("PUT", there["Location"], node))[0] == node
    await caller.call("DELETE", there["Location"])


async def _a_pipeline(caller: Caller, api: str, stages: list[Json], uri: str, told: Any) -> None:
    """Its node and a subscriber hear of all, its requestor of what becomes of it."""
    create = {"requestorId": "val-1", "notifUri": uri, "splitOpRequirements": {"stageInfo": stages}}
    made, headers = await caller.call("POST", f"{api}/request", create)
    profile = made["splitOpProfile"]
    assert headers["Location"] == f"{api}/request/{profile['splitOpPipelineId']}"
    filters = {"notifUri": uri, "discFilters": {"stageInfo": stages}}
    assert (await caller.call("POST", f"{api}/discovery", filters))[0]["splitOpProfiles"] == [profile]
    await told(CREATED=2)
    patch = {
        "notifUri": uri,
        "splitOpPipelineId": profile["splitOpPipelineId"],
        "splitOpPipelineInfo": {"splitOpProfile": {**profile, "usageInfo": {"inputFreq": 1}}},
    }
    patched, _ = await caller.call("PATCH", headers["Location"], patch)
    assert patched["splitOpProfile"]["usageInfo"] == {"inputFreq": 1}
    await told(CREATED=2, UPDATED=3)
    await caller.call("PUT", headers["Location"], create)
    await told(CREATED=2, UPDATED=6)
    join = f"{api.replace('aimles-sopl', 'aimle-split-join')}/pipelines/{profile['splitOpPipelineId']}/client"
    await caller.call("PUT", join, {"requestorId": "val-1"})
    await caller.call("DELETE", join)
    await caller.call("DELETE", headers["Location"])
    await told(CREATED=2, UPDATED=6, DELETED=2)


def _sub_events(notifications: list[Json]) -> dict[str, int]:
    return dict(Counter(one["splitOpPipelineInfo"]["subEventId"] for one in notifications))


async def _models(caller: Caller, root: str) -> str:
    """A model is stored, described, changed, given its bytes, found and fetched; returns its storage."""
    storages = f"{root}/mlr-mlmm/v1/storages"
    info = {"mlModelId": "digits", "valServiceIds": [SERVICE], "phaseInfo": {"phase": "NOT_TRAINED"}}
    content = {"mlModels": [{"mlModelInfo": info}], "suppFeat": "1"}
    stored, headers = await caller.call("POST", storages, content)
    assert stored["suppFeat"] == "0"
    storage = headers["Location"]
    await caller.call("PUT", storage, content)
    await caller.call("PATCH", storage, {"mlModelsAddresses": [{"uri": "https://models.example/m"}]})
    identifier = storage.rpartition("/")[2]
    assert len((await caller.call("GET", storages, params={"storage-ids": identifier}))[0]) == 1
    assert (await caller.call("GET", storages, params={"storage-ids": "other"}))[0] == []
    profile = f"{root}/aimle-hfl/v1/models/digits/training-profile"
    await caller.call("PUT", profile, {"strategy": "FEDAVG", "roundTimeout": 20, "minReports": 1})
    assert (await caller.call("GET", profile))[0]["roundTimeout"] == 20
    address = f"{root}/aimle-artifacts/v1/models/digits"
    await caller.call("PUT", address, data=safetensors(1000))
    await caller.call("HEAD", address)
    part, _ = await caller.call("GET", address, headers={"Range": "bytes=0-9"})
    assert part == safetensors(1000)[:10]
    found, _ = await caller.call(
        "GET",
        f"{root}/mlr-mid/v1/models",
        params={"filt-criteria": json.dumps({"mlModelId": "digits", **ANY})},
    )
    assert found["profiles"][0]["mlModelUri"] == {"uri": address}
    wanted = {"modelSelCrit": {"mlModelId": "digits", **ANY}}
    retrieved, _ = await caller.call("POST", f"{root}/aimles-mlmr/v1/retrieve", {**wanted, "suppFeat": "1"})
    assert retrieved["mlModels"] == [{"mlModelId": "digits", "mlMdlEndpoint": {"uri": address}}]
    assert retrieved["suppFeat"] == "0"
    assert "suppFeat" not in (await caller.call("POST", f"{root}/aimles-mlmr/v1/retrieve", wanted))[0]
    return storage


async def _a_selection(caller: Caller, root: str, plain: PlainClient) -> None:
    """The plain client is kept selected for a while."""
    name = "CreateAimleClSelSubscription"
    body = {
        "selCriteria": {
            **CRITERIA,
            "serviceReq": {"valServId": SERVICE},
            "clientTaskCap": {"compCap": "HIGH"},
        },
        "reqNum": 1,
        "notifUri": f"{plain.url}/notify/{name}",
        "suppFeat": "1",
    }
    made, headers = await caller.call("POST", f"{root}/aimles-sel/v1/subscriptions", body)
    assert made == body | {"suppFeat": "0"}
    await eventually(lambda: plain.news(name))
    assert plain.news(name)[0]["reports"] == [{"replaced": "", "selected": PLAIN}]
    assert (await caller.call("GET", headers["Location"]))[0] == made
    await caller.call("PATCH", headers["Location"], {"reqNum": 2})
    await caller.call("PUT", headers["Location"], body)
    await caller.call("DELETE", headers["Location"])


async def _new_models(caller: Caller, root: str, plain: PlainClient) -> None:
    """Whoever asked for models is told of the one that there is."""
    name = "CreateAimleMLModelRetrievalSubscription"
    body = {
        "modelSelCrit": {"mlModelId": "digits", **ANY},
        "notifUri": f"{plain.url}/notify/{name}",
        "expTime": "2100-01-01T00:00:00.000Z",
        "suppFeat": "1",
    }
    made, headers = await caller.call("POST", f"{root}/aimles-mlmr/v1/subscriptions", body)
    assert made == body | {"suppFeat": "0"}
    await eventually(lambda: plain.news(name))
    [told] = plain.news(name)
    address = {"uri": f"{root}/aimle-artifacts/v1/models/digits"}
    assert told["mlModels"] == [{"mlModelId": "digits", "mlMdlEndpoint": address}]
    assert headers["Location"].endswith(f"/{told['subId']}")
    assert (await caller.call("GET", headers["Location"]))[0] == made
    await caller.call("PATCH", headers["Location"], {"expTime": "2101-01-01T00:00:00Z"})
    await caller.call("PUT", headers["Location"], body)
    await caller.call("DELETE", headers["Location"])


async def _fl_events(caller: Caller, root: str, plain: PlainClient) -> None:
    """The plain client is an FL member, and leaves."""
    name = "SubFLEvents"
    energy = {"energySource": "WIND", "energyTarget": {"targetRatio": 80}}
    body = fl_subscription(
        flMbrInfo={"flMbrId": PLAIN},
        evtInfo=event("FL_MEMBER_AVAILABILITY"),
        timeValidity={"startTime": "2026-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"},
        notifUri=f"{plain.url}/notify/{name}",
        suppFeat="1",
    )
    made, headers = await caller.call(
        "POST", f"{root}/mlr-fle/v1/subscriptions", {**body, "energyReqs": energy}
    )
    assert made == body | {"suppFeat": "0"}
    await eventually(lambda: plain.news(name))
    [content] = plain.news(name)[0]["evtContentList"]
    assert (content["flMbrInfo"]["flMbrId"], content["flMbrEnterLeave"]) == (PLAIN, "ENTERING")
    assert (await caller.call("GET", headers["Location"]))[0] == made
    await caller.call("PATCH", headers["Location"], {"evtInfo": event("FL_MEMBER_LOAD")})
    await caller.call("PUT", headers["Location"], body)
    await caller.call("DELETE", headers["Location"])


async def _a_training(caller: Caller, root: str, plain: PlainClient) -> None:
    """Two rounds with one of our clients and a plain one; then a better model is asked for."""
    selected, _ = await caller.call(
        "POST", f"{root}/aimles-sel/v1/select", {"clients": [PLAIN, "ue-1"], "minNum": 2, "suppFeat": "1"}
    )
    collection = f"{root}/aimles-client-reg/v1/registrations"
    await caller.call("POST", collection, reg_info(ANOTHER, service=SERVICE, aimleClientUri=plain.url))
    assert selected["suppFeat"] == "0"
    request = {
        "trnType": "TRAIN_HFL",
        "clientSetId": selected["clientSet"],
        "modelInf": {"mlModelId": "digits"},
        "trainObj": {"objType": "ACCURACY", "maxEpochs": 2},
        "datasetId": ["digits", "flows"],
        "memUpdNotif": True,
        "notifUri": f"{plain.url}/notify/RequestTrain",
    }
    begun, _ = await caller.call("POST", f"{root}/aimles-trn/v1/request-train", request)
    status_url = f"{root}/aimle-hfl/v1/trainings/{begun['trainingId']}"

    async def ended() -> Json:
        status, _ = await caller.call("GET", status_url)
        return status if status["state"] in ("COMPLETED", "FAILED", "CANCELLED") else None

    status = await eventually(ended, timeout=30)
    assert (status["state"], status["round"], plain.problems) == ("COMPLETED", 2, [])
    await eventually(
        lambda: plain.news("RequestTrain")[-1:] and plain.news("RequestTrain")[-1]["percentageComp"] == 100
    )
    assert {"HFLTraningSubs", "ModifyHFLTrainingSubs", "AimleServOperReq"} <= {
        name for name, _ in plain.asked
    }
    assert (await caller.call("GET", f"{root}/aimle-hfl/v1/trainings"))[0] == [status]
    [move] = status["moves"]
    assert (move["sourceId"], move["targetId"], move["iterations"]) == (PLAIN, ANOTHER, 7)
    transfer, _ = await caller.call("GET", f"{root}/aimle-task-transfers/v1/transfers/{move['transferId']}")
    assert (transfer["state"], transfer["owner"]) == ("HANDED_OVER", ANOTHER)
    better, _ = await caller.call("POST", f"{root}/aimles-mlmupd/v1/request", {"mlModelId": "digits"})
    assert better["mlModelInformation"]["mlModelId"] == status["outputModelId"]
    operation = {"clients": [PLAIN, "ue-1"], "operId": {"taskId": "t"}, "operMode": "START", "suppFeat": "1"}
    answer, _ = await caller.call("POST", f"{root}/aimles-opm/v1/request", operation)
    assert answer == {"operId": {"taskId": "t"}, "operMode": "START", "suppFeat": "0"}


async def _operations_of_a_client(caller: Caller, ue: AimleClient, plain: PlainClient) -> None:
    """The APIs of one of our clients, called as another vendor's server would; its report comes to us."""
    root = ue.status.uri
    join = {
        "requesterId": "val-1",
        "clientSetId": "c",
        "clientSetPart": "JOIN",
        "mlModelId": "m",
        "schedAimlOperations": [{"aimlOperation": "MODEL_TRAINING"}],
        "dataSetReq": {},
        "serviceReq": {"valServId": SERVICE},
    }
    assert (await caller.call("POST", f"{root}/aimlec-cp/v1/participation", join))[0] == {
        "clientStatus": True
    }
    start = {"aimleServerId": "s", "servOpId": "o", "servOpMode": "START", "valServiceId": SERVICE}
    await caller.call("POST", f"{root}/aimlec-serv-ops/v1/perform", start)
    subscription = {
        "requesterId": "s",
        "notifUri": f"{plain.url}/notify/HFLTraningSubs",
        "aimlMdlInfo": {"mlModelLoc": {"uri": f"{plain.url}/model"}},
        "dataId": "digits",
        "noDataSamp": 0,
        "vaSrvId": SERVICE,
        "suppFeat": "1",
    }
    collection = f"{root}/aimlec-hfl-trng/v1/subscriptions"
    made, headers = await caller.call("POST", collection, subscription)
    assert made == subscription | {"subId": made["subId"], "suppFeat": "0"}
    await caller.call("GET", headers["Location"])
    await eventually(lambda: "HFLTraningSubs" in caller.judge.notified, timeout=20)
    await caller.call("PATCH", headers["Location"], {"noDataSamp": 1})
    await caller.call("PUT", headers["Location"], subscription)
    await caller.call("DELETE", headers["Location"])


async def _a_channel(caller: Caller, root: str) -> None:
    """A way to somebody behind a NAT, which somebody opens."""
    asked = {"websockNotifConfig": {"requestWebsocketUri": True}}
    made, headers = await caller.call("POST", f"{root}/aimle-channels/v1/channels", asked)
    uri = made["websockNotifConfig"]["websocketUri"]
    async with caller.session.ws_connect(uri, headers=caller.token()):
        caller.judge.answer("ConnectChannel", 101, None)
    await caller.call("DELETE", headers["Location"])


async def _a_task_for_a_client(caller: Caller, ue: AimleClient) -> None:
    """One of our clients is asked for a task by the server, then by the source, which brings the state in two parts."""
    task = {
        "aimlTaskType": "MODEL_TRAINING",
        "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
        "aimlTaskTransferTime": EVER,
        "aimle": {"transferId": "transfer-1"},
    }
    root, source = ue.status.uri, {"valUeId": PLAIN}
    asked = {"requestorId": "s", "sourceAimlId": source, **task}
    answer, _ = await caller.call("POST", f"{root}/aimlec-task-transfer/v1/request", asked)
    assert answer == {"aimlTaskTransferTime": EVER, "aimle": {"direct": True}}
    await caller.call(
        "POST", f"{root}/aimlec-task-transfer/v1/request-direct", {"requestorId": source, **task}
    )
    state = Walk().begin({"w": START}, {}).save_state()
    file = b"".join(map(bytes, state.dump({"aimle.training": "t", "aimle.round": "1"})))
    url = f"{root}/aimle-task-states/v1/states/transfer-1"
    await in_two_parts(caller, url, file)


async def _clean_up(caller: Caller, root: str, storage: str) -> None:
    await caller.call("DELETE", f"{root}/aimle-hfl/v1/models/digits/training-profile")
    await caller.call("DELETE", storage)


def test_the_judge_can_say_no() -> None:
    """What is missing, of a wrong type, undocumented or not documented for this status is found out."""
    judge = Judge.of_all_documents()
    right = {"clients": ["a"], "suppFeats": "0"}
    judge.answer("GetAimleClients", 200, right)
    for wrong in (
        {},
        {"clients": [1]},
        {"clients": [], "suppFeats": "x"},
        {**right, "_owner": "me"},
        [],
        None,
    ):
        with pytest.raises((ValidationError, AssertionError)):
            judge.answer("GetAimleClients", 200, wrong)
    with pytest.raises(AssertionError):
        judge.answer("GetAimleClients", 202, right)
    with pytest.raises(ValidationError):
        judge.notification("RequestTrain", {"percentageComp": 101})
    with pytest.raises(ValidationError):
        judge.request("ModifyIndMLModelsStorage", {"mlModels": [{}]})
    assert set(judge.own) >= {operation.operation_id for api in CLIENT_APIS for operation in api.operations}

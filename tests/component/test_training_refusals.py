"""What a request for a training is refused for (TS 23.482 8.3, table 8.3.3.1-1)."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ml_repository.database import connect
from tests.support_training_requests import GOOD, Asking, Json, asking

VFL: Json = {"featureList": [{"clientId": "ue-1", "list": ["hour"]}], "datasetComm": [{"featureId": "ue"}]}

CAPABLE: Json = {
    "clientCapability": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"}
}
BACKWARDS: Json = {
    "clientAvailability": {"startTime": "2030-01-02T00:00:00Z", "stopTime": "2030-01-01T00:00:00Z"}
}

REFUSED: list[tuple[str, Json, int, str]] = [
    ("nobody to train", {"members": None}, 400, "/members"),
    ("two lists of members", {"clientSetId": "s"}, 400, "/clientSetId"),
    ("no client at all", {"numReqClients": 0}, 400, "/numReqClients"),
    (
        "more clients than one training has",
        {"members": None, "memSelCrit": CAPABLE, "numReqClients": 10**9},
        400,
        "/numReqClients",
    ),
    ("criteria without any", {"members": None, "memSelCrit": {}}, 400, "/memSelCrit"),
    ("member updates for nobody", {"memUpdNotif": True}, 400, "/notifUri"),
    ("more clients than members", {"numReqClients": 2}, 400, "/numReqClients"),
    ("no model", {"modelInf": None}, 400, "/modelInf"),
    ("no model's identity", {"modelInf": {}}, 400, "/modelInf/mlModelId"),
    (
        "a host and no file",
        {"modelInf": {"mlModelLoc": {"fqdn": "a.example"}}},
        400,
        "/modelInf/mlModelLoc/uri",
    ),
    (
        "a file to be fetched by FTP",
        {"modelInf": {"mlModelLoc": {"uri": "ftp://a/m"}}},
        400,
        "/modelInf/mlModelLoc",
    ),
    ("a type of training of no standard", {"trnType": "TRAIN_XFL"}, 400, "/trnType"),
    ("vertical FL without parameters", {"trnType": "TRAIN_VFL"}, 400, "/vflParam/datasetComm"),
    (
        "vertical FL without features",
        {"trnType": "TRAIN_VFL", "vflParam": {"datasetComm": VFL["datasetComm"]}},
        400,
        "/vflParam/featureList",
    ),
    ("an objective that nobody measures", {"trainObj": {"objType": "BEAUTY"}}, 400, "/trainObj/objType"),
    ("no epoch", {"trainObj": {"objType": "ACCURACY", "maxEpochs": 0}}, 400, "/trainObj/maxEpochs"),
    (
        "members that must be there backwards",
        {"memSelCrit": BACKWARDS},
        400,
        "/memSelCrit/clientAvailability/stopTime",
    ),
    ("no samples", {"dataSamples": 0}, 400, "/dataSamples"),
    ("no schedule", {"opSchedule": "tomorrow"}, 400, "/opSchedule"),
    ("a schedule backwards", {"opSchedule": "2030-01-02T00:00:00Z/2030-01-01T00:00:00Z"}, 400, "/opSchedule"),
    (
        "a weekly schedule that is none",
        {"opSchedule": '{"daysOfWeek": [9]}'},
        400,
        "/opSchedule/daysOfWeek/0",
    ),
    ("a notification by FTP", {"notifUri": "ftp://val.example/n"}, 400, "/notifUri"),
    ("a notification to the metadata service", {"notifUri": "http://169.254.169.254/n"}, 400, "/notifUri"),
    ("no data set", {"datasetId": None}, 400, "/datasetId"),
    ("a model that is not there", {"modelInf": {"mlModelId": "nope"}}, 404, ""),
    ("a client set that is not there", {"members": None, "clientSetId": "nope"}, 404, ""),
    ("vertical FL", {"trnType": "TRAIN_VFL", "vflParam": VFL}, 501, ""),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(mongo_url: str) -> AsyncIterator[Asking]:
    """One VAL server's requests, none of which changes anything."""
    database = await connect(mongo_url, "refused")
    async with asking(mongo_url, database) as found:
        yield found
    await database.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("changes", "status", "param"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
async def test_refused(ask: Asking, changes: Json, status: int, param: str) -> None:
    """A request that cannot work is refused with the attribute's name, and leaves nothing behind."""
    body = {name: value for name, value in (GOOD | changes).items() if value is not None}
    answer, problem = await ask.request(body)
    assert (answer, problem["status"]) == (status, status), problem
    if param:
        assert param in [wrong["param"] for wrong in problem["invalidParams"]]
    assert await ask.database["trainings"].count_documents({}) == 0
    assert await ask.database["models"].count_documents({}) == 1

"""Every discovery criterion: met, not met, and not stated by the client."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from aimle_server.procedures.external import External, NoService
from aimle_server.procedures.matching import criteria_tags, fulfils_member_criteria, matches, training_tags
from ml_repository.registrations import tags
from sbi.clock import to_wire
from tests.support import START
from tests.support_clients import SERVICE, Json, criteria, reg_info, stored

NOTHING_CONNECTED = External()
TAI = {"plmnId": {"mcc": "244", "mnc": "05"}, "tac": "00A1"}
HERE = {"nwAreaInfo": {"tais": [TAI]}}
ELSEWHERE = {"nwAreaInfo": {"tais": [TAI | {"tac": "00A2"}]}}
WEEKDAYS = {"daysOfWeek": [1, 2, 3, 4, 5]}


def service(level: str) -> Json:
    return {"serviceReq": {"valServId": SERVICE, "permLevel": level}}


def dataset(**wanted: Any) -> Json:
    return {"datasetReq": {"avail": wanted}}


def data(**wanted: Any) -> Json:
    return {"datasetReq": {"cap": wanted}}


def data_set(**stated: Any) -> Json:
    return {"dataSetAvail": {"dataSetIds": ["flows"], **stated}}


def capable(application: str) -> Json:
    return {"clientCap": {"mlAppType": application, "rsrcUsageLvl": "LIMITED_RESOURCE_USAGE"}}


def days_ago(days: float) -> str:
    return to_wire(START - timedelta(days=days))


CASES: list[tuple[str, Json, Json, bool]] = [
    ("nothing but the mandatory", criteria(), {}, True),
    ("service", criteria(serviceReq={"valServId": "other"}), {}, False),
    ("level", criteria(**service("PREMIUM")), {"level": "PREMIUM_RESOURCE_USAGE"}, True),
    ("higher level", criteria(**service("STANDARD")), {"level": "PREMIUM_RESOURCE_USAGE"}, False),
    ("level not stated", criteria(**service("LIMITED")), {}, False),
    ("unknown level", criteria(**service("GOLD")), {"level": "GOLD"}, True),
    ("unknown level, other stated", criteria(**service("GOLD")), {"level": "PREMIUM_RESOURCE_USAGE"}, False),
    ("model types", criteria(mlModelTypes=["NEURAL_NETWORKS", "DECISION_TREES"]), {}, True),
    ("one model type missing", criteria(mlModelTypes=["NEURAL_NETWORKS", "LINEAR_REGRESSION"]), {}, False),
    ("model types not stated", criteria(mlModelTypes=["NEURAL_NETWORKS"]), {"aimlModelTypes": None}, False),
    ("unknown model type", criteria(mlModelTypes=["KAN"]), {"aimlModelTypes": ["KAN"]}, True),
    ("operations", criteria(aimlOpers=["MODEL_TRAINING", "MODEL_INFERENCE"]), {}, True),
    ("one operation missing", criteria(aimlOpers=["MODEL_TRAINING", "MODEL_SPLIT"]), {}, False),
    ("application", criteria({"appType": "SL"}), capable("SPLIT_LEARNING"), True),
    ("other application", criteria({"appType": "TL"}), {}, False),
    ("unknown application", criteria({"appType": "GOSSIP"}), capable("GOSSIP"), True),
    ("availability", criteria({"avail": [WEEKDAYS]}), {"availTimeSchedCfgs": [WEEKDAYS]}, True),
    (
        "less availability",
        criteria({"avail": [WEEKDAYS, {"daysOfWeek": [6]}]}),
        {"availTimeSchedCfgs": [WEEKDAYS]},
        False,
    ),
    ("no schedule is always", criteria({"avail": [WEEKDAYS]}), {}, True),
    ("not available now", criteria(), {"unavblTimeSchedCfgs": [{"daysOfWeek": [2]}]}, False),
    ("dataset ids", criteria(**dataset(ids=["speeds", "flows"])), {}, True),
    ("one dataset missing", criteria(**dataset(ids=["flows", "weather"])), {}, False),
    ("dataset not stated", criteria(**dataset(ids=["flows"])), {"dataSetAvail": None}, False),
    ("dataset size", criteria(**dataset(size=5000)), {}, True),
    ("dataset too small", criteria(**dataset(size=5001)), {}, False),
    ("dataset size not stated", criteria(**dataset(size=0)), data_set(), False),
    ("dataset age", criteria(**dataset(age=days_ago(10))), {}, True),
    ("dataset too old", criteria(**dataset(age=days_ago(9.9))), {}, False),
    ("dataset age not stated", criteria(**dataset(age=days_ago(100))), data_set(), False),
    ("features", criteria(**dataset(features=["hour"])), {}, True),
    ("one feature missing", criteria(**dataset(features=["hour", "weather"])), {}, False),
    ("features not stated", criteria(**dataset(features=["hour"])), data_set(), False),
    ("raw data", criteria(**data(dataType="RAW")), {}, True),
    ("processed data", criteria(**data(dataType="PROCESSED")), {}, False),
    ("data type not stated", criteria(**data(dataType="RAW")), {"dataCap": None}, False),
    ("data function", criteria(**data(functions=["EXPLORATORY_DATA_ANALYSIS"])), {}, True),
    ("data function of its own", criteria(**data(functions=["OUTLIERS"])), {"dataCap": ["OUTLIERS"]}, True),
    ("other data function", criteria(**data(functions=["OUTLIERS"])), {}, False),
    ("compute", criteria(clientTaskCap={"compCap": "HIGH"}), {}, True),
    ("other compute", criteria(clientTaskCap={"compCap": "LOW"}), {}, False),
    ("performance", criteria(clientTaskCap={"compCap": "HIGH", "perfCap": "LOW_COSTS"}), {}, True),
    ("other performance", criteria(clientTaskCap={"perfCap": "GREEN_TASK"}), {}, False),
    ("tasks not stated", criteria(clientTaskCap={"compCap": "HIGH"}), {"taskCaps": None}, False),
    ("location", criteria(location=HERE), {"availLocCfgs": [{"clientLoc": HERE}]}, True),
    ("other location", criteria(location=HERE), {"availLocCfgs": [{"clientLoc": ELSEWHERE}]}, False),
    ("location not stated", criteria(location=HERE), {}, False),
    ("velocity nobody knows", criteria(clientVel="STATIC"), {}, False),
    ("QoS nobody measures", criteria(clientQosReqs=[{}]), {}, False),
    ("edge server nobody knows", criteria(edgeAimleS={"aimleServId": "edge-1"}), {}, False),
]


@pytest.mark.parametrize(
    ("asked", "client", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_criterion(asked: Json, client: Json, expected: bool) -> None:
    """A client matches when it states what each criterion asks for, and its tags then pass the prefilter."""
    info = reg_info(**client)
    candidate = await matches(asked, stored(info), START, NOTHING_CONNECTED)
    assert (candidate is not None) is expected
    if candidate is not None:
        assert set(criteria_tags(asked)) <= set(tags(info))


@pytest.mark.parametrize(
    ("maximum", "asked", "dropped", "expected"),
    [(10, 10, 1, True), (10, 10, 2, False), (0, 3, 0, True), (100, 0, 0, False)],
)
async def test_drop_off_rate(maximum: int, asked: int, dropped: int, expected: bool) -> None:
    """The measured share of dropped rounds must not be over the maximum; without a round there is no rate."""
    record = stored(reg_info(), asked=asked, dropped=dropped)
    found = await matches(criteria({"dropOfRate": maximum}), record, START, NOTHING_CONNECTED)
    assert (found is not None) is expected


async def test_one_profile_meets_all() -> None:
    """Two profiles that meet the criteria only together do not make a match."""
    info = reg_info(aimlOperations=["MODEL_TRAINING"])
    info["suppProfiles"] += reg_info(service="other", aimlOperations=["MODEL_SPLIT"])["suppProfiles"]
    both = criteria(aimlOpers=["MODEL_TRAINING", "MODEL_SPLIT"])
    assert await matches(both, stored(info), START, NOTHING_CONNECTED) is None
    split_for_service = criteria(aimlOpers=["MODEL_SPLIT"])
    assert await matches(split_for_service, stored(info), START, NOTHING_CONNECTED) is None


async def test_candidate_tells_the_matching_profile() -> None:
    """The candidate's address and services are those of the profile that met the criteria."""
    info = reg_info(aimlOperations=["MODEL_SPLIT"], aimleClientUri="http://ue.example/split")
    info["suppProfiles"] += reg_info(aimleClientUri="http://ue.example/train")["suppProfiles"]
    candidate = await matches(criteria(), stored(info), START, NOTHING_CONNECTED)
    assert candidate is not None
    assert (candidate.client_id, candidate.uri) == ("ue-1", "http://ue.example/train")
    assert (candidate.registration_id, candidate.services) == ("r-1", (SERVICE,))


class Connected(NoService):
    """Services that know one slow client with a good connection, at one edge server."""

    async def velocity_of(self, client_id: str) -> str | None:
        return "MOBILE_LOW" if client_id == "ue-1" else None

    async def meets(self, client_id: str, requirements: Sequence[Mapping[str, Any]]) -> bool:
        return client_id == "ue-1" and len(requirements) == 1

    async def serves(self, edge: Mapping[str, Any], client_id: str) -> bool:
        return client_id == "ue-1" and edge == {"aimleServId": "edge-1"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"clientVel": "MOBILE_LOW"}, True),
        ({"clientVel": "STATIC"}, False),
        ({"clientQosReqs": [{"x": 1}]}, True),
        ({"clientQosReqs": [{"x": 1}, {"x": 2}]}, False),
        ({"edgeAimleS": {"aimleServId": "edge-1"}}, True),
        ({"edgeAimleS": {"aimleServId": "edge-2"}}, False),
    ],
)
async def test_connected_services_decide(asked: Json, expected: bool) -> None:
    """Velocity, QoS and edge servers are asked of the services that are connected."""
    services = Connected()
    external = External(velocity=services, qos=services, edge=services)
    assert (await matches(criteria(**asked), stored(reg_info()), START, external) is not None) is expected


def span(start_hours: float, hours: float) -> Json:
    start = START + timedelta(hours=start_hours)
    return {"startTime": to_wire(start), "stopTime": to_wire(start + timedelta(hours=hours))}


MEMBERS: list[tuple[str, Json | None, list[str], Json, bool]] = [
    ("no criteria", None, ["flows"], {}, True),
    ("one dataset of several", {}, ["weather", "speeds"], {}, True),
    ("dataset missing", {}, ["weather"], {}, False),
    ("dataset not stated", {}, ["flows"], {"dataSetAvail": None}, False),
    ("cannot train", {}, ["flows"], {"aimlOperations": ["MODEL_INFERENCE"]}, False),
    ("not federated", {}, ["flows"], capable("SPLIT_LEARNING"), False),
    ("not available now", {}, ["flows"], {"unavblTimeSchedCfgs": [{"daysOfWeek": [2]}]}, False),
    (
        "capability",
        {"clientCapability": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"}},
        ["flows"],
        {},
        True,
    ),
    (
        "other capability",
        {"clientCapability": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "PREMIUM_RESOURCE_USAGE"}},
        ["flows"],
        {},
        False,
    ),
    (
        "free for the window",
        {"clientAvailability": span(1, 5)},
        ["flows"],
        {"unavblTimeSchedCfgs": [{"daysOfWeek": [3]}]},
        True,
    ),
    (
        "busy in the window",
        {"clientAvailability": span(1, 30)},
        ["flows"],
        {"unavblTimeSchedCfgs": [{"daysOfWeek": [3]}]},
        False,
    ),
    ("location", {"clientLoc": HERE}, ["flows"], {"availLocCfgs": [{"clientLoc": HERE}]}, True),
    ("location not stated", {"clientLoc": HERE}, ["flows"], {}, False),
]


@pytest.mark.parametrize(
    ("asked", "datasets", "client", "expected"),
    [case[1:] for case in MEMBERS],
    ids=[case[0] for case in MEMBERS],
)
async def test_member_criteria(asked: Json | None, datasets: list[str], client: Json, expected: bool) -> None:
    """A member trains in federated learning, has a dataset, and is what the criteria ask for."""
    info = reg_info(**client)
    found = await fulfils_member_criteria(asked, datasets, stored(info), START, NOTHING_CONNECTED)
    assert (found is not None) is expected
    if found is not None:
        assert any(set(training_tags(dataset)) <= set(tags(info)) for dataset in datasets)

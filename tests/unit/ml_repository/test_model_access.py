"""Who may have a model, and which models a filter means (TS 23.482 8.11.3)."""

from datetime import timedelta
from typing import Any

import pytest

from ml_repository.model_access import ANY, disclosed, matches, may_access, readers
from ml_repository.model_record import ModelBytes, StoredModel, moment_after
from sbi.auth import Caller
from tests.support import START

OWNER = Caller("owner", vendor="acme")
LISTED = Caller("listed")
OTHER = Caller("other")
ACME = Caller("partner", vendor="acme")

PUBLIC = {"accessReq": "PUBLICLY_AVAILABLE"}
PRIVATE = {"accessReq": "PRIVATE_USE_ONLY"}
AREA = {"geographicAreas": [{"shape": "POINT", "point": {"lon": 13.4, "lat": 52.5}}]}


def restricted(**conditions: Any) -> dict[str, Any]:
    """RESTRICTED with these conditions."""
    return {"accessReq": "RESTRICTED", **conditions}


def stored(access: dict[str, Any] | None = None, **info: Any) -> StoredModel:
    """A model of the owner's, stored at START."""
    requirements = {"storeDiscReqs": {"accessReqs": access}} if access else {}
    profile = {"mlModelProfId": "p", "mlModelInfo": {"mlModelId": "m", **requirements, **info}}
    return StoredModel("m", "owner", "s", START, None, None, profile)


@pytest.mark.parametrize(
    ("access", "vendors", "allowed"),
    [
        (None, None, {OWNER}),
        (None, ["acme"], {OWNER, ACME}),
        (PUBLIC, None, {OWNER, LISTED, OTHER, ACME}),
        (PUBLIC, ["acme"], {OWNER, ACME}),
        (PUBLIC, ["initech"], {OWNER}),
        (PRIVATE, None, {OWNER}),
        (PRIVATE, ["acme"], {OWNER}),
        ({"accessReq": "SOMETHING_NEW"}, None, {OWNER}),
        (restricted(valServerIds=["listed"]), None, {OWNER, LISTED}),
        (restricted(valClientIds=["listed"]), None, {OWNER, LISTED}),
        (restricted(valServerIds=["x"], valClientIds=["listed"]), None, {OWNER, LISTED}),
        (restricted(valServerIds=["listed", "partner"]), ["acme"], {OWNER, ACME}),
        (restricted(timePeriod=60), None, {OWNER, LISTED, OTHER, ACME}),
        (restricted(timePeriod=59), None, {OWNER}),
        (restricted(timePeriod=0), None, {OWNER}),
        (restricted(valServerIds=["listed"], timePeriod=60), None, {OWNER, LISTED}),
        (restricted(valServerIds=["listed"], timePeriod=59), None, {OWNER}),
        (restricted(location=AREA), None, {OWNER}),
        (restricted(valServerIds=["listed"], location=AREA), None, {OWNER}),
        (restricted(), None, {OWNER}),
        (restricted(valServerIds=["*"]), None, {OWNER}),
    ],
)
def test_access(access: dict[str, Any] | None, vendors: list[str] | None, allowed: set[Caller]) -> None:
    """A model is its owner's, and theirs whom vendors and access requirements both let in after 59 s."""
    model = stored(access, **({"vendors": vendors} if vendors else {}))
    now = START + timedelta(seconds=59)
    assert {caller for caller in (OWNER, LISTED, OTHER, ACME) if may_access(model, caller, now)} == allowed


def test_location_asks_whoever_knows_locations() -> None:
    """An area that is required is left to the given judge, with the area and the caller."""
    asked = []

    def judge(area: Any, caller: Caller) -> bool:
        asked.append((area, caller))
        return caller == LISTED

    model = stored(restricted(location=AREA))
    assert may_access(model, LISTED, START, judge)
    assert not may_access(model, OTHER, START, judge)
    assert asked == [(AREA, LISTED), (AREA, OTHER)]


@pytest.mark.parametrize(
    "access",
    [
        None,
        PUBLIC,
        PRIVATE,
        restricted(valServerIds=["listed"]),
        restricted(timePeriod=9),
        restricted(location=AREA),
    ],
)
@pytest.mark.parametrize("vendors", [None, ["acme"]])
def test_readers_are_never_too_few(access: dict[str, Any] | None, vendors: list[str] | None) -> None:
    """Whoever may have a model is among the readers that an index finds it by, or anybody is."""
    model = stored(access, **({"vendors": vendors} if vendors else {}))
    found_by = readers(model.info, "owner")
    for caller in (OWNER, LISTED, OTHER, ACME):
        if may_access(model, caller, START, lambda area, caller: True):
            assert {caller.subject, ANY} & set(found_by)


def test_readers_of_a_private_model_are_its_owner() -> None:
    """A search by others does not even touch a private model."""
    assert readers(stored(PRIVATE).info, "owner") == ["owner"]
    assert readers(stored().info, "owner") == ["owner"]


def test_others_are_not_told_who_else_may_have_a_model() -> None:
    """A listed caller sees its own entry in the lists of a RESTRICTED model, the owner sees all of it."""
    access = restricted(valServerIds=["listed", "rival"], valClientIds=["ue-1"], timePeriod=60)
    model = stored(access)
    shown = disclosed(model, LISTED)["storeDiscReqs"]["accessReqs"]
    assert shown == restricted(valServerIds=["listed"], timePeriod=60)
    assert disclosed(model, OWNER) == model.info


INFO: dict[str, Any] = {
    "mlModelId": "m",
    "adaeAnalyticsId": "VAL_SERVER_PERF",
    "mlModelSize": 1000,
    "mlModelSrcId": "owner",
    "valServiceIds": ["a", "b"],
    "domain": "CUSTOM",
    "customDomain": "crop yield",
    "vendors": ["acme", "initech"],
    "interopInfo": "onnx",
    "phaseInfo": {
        "phase": "TRAINED",
        "observedPerf": {"resourceAddr": 90, "appSpecPerfData": "f1=0.8"},
        "trainingInfo": {
            "dataSources": "fields",
            "dataVolume": 500,
            "freshness": "DAILY",
            "baseModelId": "m0",
        },
        "contTrainInd": True,
        "contTrainParams": "weekly",
    },
    "storeDiscReqs": {"duration": 3600, "accessReqs": restricted(valServerIds=["v1", "v2"], timePeriod=60)},
    "usageReqs": {"usages": ["TRAINING", "INFERENCE"]},
}


def nested(path: str, value: Any) -> dict[str, Any]:
    """`nested("a/b", 1)` is `{"a": {"b": 1}}`."""
    for name in reversed(path.split("/")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "met", "unmet"),
    [
        ("mlModelId", "m", "m0"),
        ("adaeAnalyticsId", "VAL_SERVER_PERF", "SLICE_PERF"),
        ("mlModelSize", 1000, 999),
        ("mlModelSrcId", "owner", "other"),
        ("valServiceIds", ["b"], ["b", "c"]),
        ("domain", "CUSTOM", "IMAGE_RECOGNITION"),
        ("customDomain", "crop yield", "crop"),
        ("vendors", ["initech", "acme"], ["acme", "hooli"]),
        ("interopInfo", "onnx", "tflite"),
        ("phaseInfo/phase", "TRAINED", "DEPLOYED"),
        ("phaseInfo/observedPerf/resourceAddr", 90, 91),
        ("phaseInfo/observedPerf/appSpecPerfData", "f1=0.8", "f1=0.9"),
        ("phaseInfo/trainingInfo/dataSources", "fields", "streets"),
        ("phaseInfo/trainingInfo/dataVolume", 500, 501),
        ("phaseInfo/trainingInfo/freshness", "DAILY", "HOURLY"),
        ("phaseInfo/trainingInfo/baseModelId", "m0", "m"),
        ("phaseInfo/contTrainInd", True, False),
        ("phaseInfo/contTrainParams", "weekly", "daily"),
        ("storeDiscReqs/duration", 3600, 3601),
        ("storeDiscReqs/accessReqs/accessReq", "RESTRICTED", "PUBLICLY_AVAILABLE"),
        ("storeDiscReqs/accessReqs/valServerIds", ["v2"], ["v3"]),
        ("storeDiscReqs/accessReqs/valClientIds", [], ["ue-1"]),
        ("storeDiscReqs/accessReqs/timePeriod", 60, 61),
        ("usageReqs/usages", ["INFERENCE"], ["FINE_TUNING"]),
    ],
)
def test_filter_by_one_attribute(path: str, met: Any, unmet: Any) -> None:
    """Each attribute of a filter is compared with the model's own, by the rule of its kind."""
    if met:
        assert matches({"mlModelId": ANY, **nested(path, met)}, INFO)
    assert not matches({"mlModelId": ANY, **nested(path, unmet)}, INFO)


def test_filter_needs_every_attribute() -> None:
    """One attribute that is not met is enough to leave a model out."""
    both = {"mlModelId": ANY, "domain": "CUSTOM", "interopInfo": "onnx"}
    assert matches(both, INFO)
    assert not matches({**both, "interopInfo": "tflite"}, INFO)
    assert not matches({**both, "mlModelId": "another"}, INFO)


def test_filter_leaves_out_models_that_do_not_say() -> None:
    """A model without the attribute asked for does not meet the filter."""
    bare = {"mlModelId": "m", "interopInfo": "onnx"}
    for name in ("domain", "vendors", "mlModelSize", "phaseInfo", "usageReqs", "valServiceIds"):
        assert not matches({"mlModelId": ANY, name: INFO[name]}, bare), name


def test_filter_knows_the_defaults() -> None:
    """A model that does not say otherwise is not trained continuously, and is stored without end."""
    bare = {"mlModelId": "m", "phaseInfo": {"phase": "TRAINED"}}
    assert matches({"mlModelId": ANY, "phaseInfo": {"phase": "TRAINED", "contTrainInd": False}}, bare)
    assert not matches({"mlModelId": ANY, "phaseInfo": {"phase": "TRAINED", "contTrainInd": True}}, bare)
    assert matches({"mlModelId": "m", "storeDiscReqs": {"duration": 10**9}}, bare)
    assert matches({"mlModelId": "m", "storeDiscReqs": {"duration": 0}}, bare)


def test_results_are_hidden_while_retraining() -> None:
    """Performance and training information are shown only in the phases TRAINED and DEPLOYED."""
    results = {
        "observedPerf": {"resourceAddr": 9},
        "trainingInfo": {"baseModelId": "m0"},
        "contTrainInd": True,
    }
    assert stored(phaseInfo={"phase": "DEPLOYED", **results}).info["phaseInfo"]["observedPerf"]
    retraining = stored(phaseInfo={"phase": "IN_RETRAINING", **results})
    assert retraining.info["phaseInfo"] == {"phase": "IN_RETRAINING", "contTrainInd": True}
    assert retraining.in_training


def test_size_is_that_of_the_bytes() -> None:
    """mlModelSize is what the owner said until there are bytes, and then their number."""
    model = stored(mlModelSize=5)
    assert model.info["mlModelSize"] == 5
    with_bytes = StoredModel("m", "o", "s", START, None, ModelBytes("a", 77, "00"), model.profile)
    assert with_bytes.info["mlModelSize"] == 77


def test_durations_have_no_bound_on_the_wire() -> None:
    """A DurationSec of any size makes a moment that can be stored: a hundred years on at most."""
    assert moment_after(START, 60) == START + timedelta(minutes=1)
    assert moment_after(START, 2**62) == START + timedelta(days=36_500)

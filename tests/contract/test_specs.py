"""The documents in `specs/` are those of the code, and say what the official ones say."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from aimle_server.apis import ALL_APIS
from sbi.api import Api
from sbi.openapi import document, stale
from tests.contract.official import Difference, deviations, differences, schema_differences

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
OFFICIAL = Path(os.environ.get("AIMLE_3GPP_OPENAPI", ROOT / "../shared/3gpp/bundled"))
APIS = {api.document: api for api in ALL_APIS}
STANDARD_APIS = [api for api in APIS.values() if not api.extension]
TRAINING = "TS29482_AIMLES_MLModelTraining"

needs_official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="no official documents; AIMLE_3GPP_OPENAPI says where they are"
)


def official(api: Api) -> Any:
    """The official document of an API."""
    return json.loads((OFFICIAL / f"{api.document}.json").read_text(encoding="utf-8"))


def test_committed_documents_are_those_of_the_code() -> None:
    """`specs/` is what the route tables and schemas generate; `make specs` writes it."""
    assert stale(ALL_APIS, SPECS) == []


@needs_official
@pytest.mark.parametrize("api", STANDARD_APIS, ids=lambda api: api.document)
def test_api_is_the_official_one_but_for_explained_deviations(api: Api) -> None:
    """Whatever our document says otherwise than the official one is explained in DEVIATIONS.md."""
    rows = deviations(SPECS / "DEVIATIONS.md")
    unexplained = [
        difference
        for difference in differences(document(api), official(api))
        if not any(row.explains(api.document, difference) for row in rows)
    ]
    assert unexplained == []


@needs_official
def test_every_deviation_still_exists() -> None:
    """A row of DEVIATIONS.md explains a difference there is, and says why."""
    found = [
        (api.document, difference)
        for api in STANDARD_APIS
        for difference in differences(document(api), official(api))
    ]
    for row in deviations(SPECS / "DEVIATIONS.md"):
        assert row.why, row
        assert any(row.explains(name, difference) for name, difference in found), row


@needs_official
def test_our_extension_is_made_of_an_official_type() -> None:
    """When to report is said in `aimle` as the standard says it where it has an attribute for it."""
    theirs = json.loads((OFFICIAL / "TS29482_AIMLES_SplitOpEvent.json").read_text(encoding="utf-8"))
    for api in ("TS29482_AIMLES_AIMLEClientSelection", "TS29482_AIMLES_MLModelRetrieval"):
        found = schema_differences(
            "ReportingInformation",
            document(APIS[api]),
            "TS29523_Npcf_EventExposure.ReportingInformation",
            theirs,
        )
        assert found == []


def _rename_attribute(other: Any) -> None:
    schema = other["components"]["schemas"]["MlModelTrainNotif"]["properties"]
    schema["trainingId"] = schema.pop("trainingID")


def _require_attribute(other: Any) -> None:
    other["components"]["schemas"]["TrainRequest"]["required"].append("notifUri")


def _drop_alternative(other: Any) -> None:
    other["components"]["schemas"][_MODEL]["anyOf"].pop()


def _add_enumeration_value(other: Any) -> None:
    other["components"]["schemas"]["TrainingType"]["anyOf"][0]["enum"].append("TRAIN_TL")


def _raise_bound(other: Any) -> None:
    other["components"]["schemas"]["PerfParams"]["properties"]["modelAccuracy"]["maximum"] = 1000


def _change_pattern(other: Any) -> None:
    other["components"]["schemas"]["TS29571_CommonData.Fqdn"]["pattern"] = "^.*$"


def _answer_differently(other: Any) -> None:
    responses = other["paths"]["/request-train"]["post"]["responses"]
    responses["201"] = responses.pop("200")


def _notify_elsewhere(other: Any) -> None:
    callback = other["paths"]["/request-train"]["post"]["callbacks"]["myNotification"]
    callback["{$request.body#/notifyUri}"] = callback.pop("{$request.body#/notifUri}")


_MODEL = "TS29482_MLR_MLModelManagement.MLModel"


@needs_official
@pytest.mark.parametrize(
    ("alter", "where"),
    [
        (_rename_attribute, "/components/schemas/MlModelTrainNotif/properties/trainingID"),
        (_require_attribute, "/components/schemas/TrainRequest/required"),
        (_drop_alternative, "/components/schemas/MLModel/anyOf/storeDiscReqs"),
        (_add_enumeration_value, "/components/schemas/TrainingType/anyOf/0/enum"),
        (_raise_bound, "/components/schemas/PerfParams/properties/modelAccuracy/maximum"),
        (_change_pattern, "/components/schemas/EndPoint/properties/fqdn/pattern"),
        (_answer_differently, "/paths/POST /request-train/responses/200"),
        (
            _notify_elsewhere,
            "/paths/POST /request-train/callbacks/myNotification/POST {$request.body#/notifUri}",
        ),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_comparison_sees_a_difference(alter: Any, where: str) -> None:
    """A change of the official document, wherever it is, is reported with its place."""
    ours, before = document(APIS[TRAINING]), official(APIS[TRAINING])
    after = copy.deepcopy(before)
    alter(after)
    new = set(differences(ours, after)) - set(differences(ours, before))
    assert where in {difference.where for difference in new}


def test_deviation_explains_only_what_it_says() -> None:
    """A row is for its document, its place and its two values, and for nothing else."""
    row = next(
        row
        for row in deviations(SPECS / "DEVIATIONS.md")
        if row.where == "/paths/PUT /registrations/{registrationId}/responses/204"
    )
    missing = Difference(row.where, "absent", "present")
    assert row.explains(row.document, missing)
    assert not row.explains("TS29482_AIMLES_MLModelTraining", missing)
    assert not row.explains(row.document, Difference(missing.where, "present", "absent"))
    assert not row.explains(row.document, Difference("/paths/POST /registrations", "absent", "present"))

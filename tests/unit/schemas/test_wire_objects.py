"""What a caller notices of the rules on attributes: missing, one of several, unknown, unknown value."""

from typing import Any

import pytest
from marshmallow import ValidationError

from schemas.base import Schema
from schemas.client_participation import AimlecParticipationReq
from schemas.client_registration import AimleClientRegInfo
from schemas.client_selection import ClientSelReq
from schemas.common import EndPoint, ScheduledCommunicationTime
from schemas.fl_member import FlMbr
from schemas.hfl_management import TrainingProfile
from schemas.location import LocationArea5G
from schemas.model_discovery import DiscoveryResp
from schemas.model_management import MLModel
from schemas.model_training import MlModelTrainNotif, TrainRequest


def registration(**profile: Any) -> dict[str, Any]:
    """The least that a client registers with, and `profile` on top."""
    client = {
        "aimleClientUri": "http://ue.example.com:7000",
        "aimlOperations": ["MODEL_TRAINING"],
        "clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"},
    }
    return {"aimleClientId": {"valUeId": "ue-1"}, "suppProfiles": [{"clientProfile": client | profile}]}


def errors(schema: Schema, data: Any) -> Any:
    """The messages with which `data` is refused."""
    with pytest.raises(ValidationError) as refused:
        schema.load(data)
    return refused.value.messages


def test_valid_object_passes_unchanged() -> None:
    """What is valid is returned as it came, in plain JSON types."""
    data = registration(availTimeSchedCfgs=[{"daysOfWeek": [1, 5], "timeOfDayStart": "08:00:00"}])
    assert AimleClientRegInfo().load(data) == data


def test_missing_attributes_are_named() -> None:
    """Each required attribute that is missing is named, at its depth."""
    found = errors(AimleClientRegInfo(), {"suppProfiles": [{"clientProfile": {"aimlOperations": []}}]})
    profile = found["suppProfiles"][0]["clientProfile"]
    assert set(found) == {"aimleClientId", "suppProfiles"}
    assert set(profile) == {"aimleClientUri", "aimlOperations", "clientCap"}


def test_unknown_attribute_is_dropped_at_every_depth() -> None:
    """An attribute that the standard does not have, or not yet, is ignored."""
    data = registration(newThing={"a": 1}) | {"other": True}
    assert AimleClientRegInfo().load(data) == registration()


def test_unknown_value_of_an_open_enumeration_passes() -> None:
    """A value that a later release adds is accepted; a value that is no text is not."""
    loaded = AimleClientRegInfo().load(registration(aimlOperations=["MODEL_DREAMING"]))
    assert loaded["suppProfiles"][0]["clientProfile"]["aimlOperations"] == ["MODEL_DREAMING"]
    found = errors(AimleClientRegInfo(), registration(aimlOperations=[7]))
    assert found["suppProfiles"][0]["clientProfile"]["aimlOperations"][0] == ["Not a valid string."]


def test_null_is_no_value() -> None:
    """Outside a merge patch, null does not stand for an absent attribute."""
    assert "suppFeat" in errors(AimleClientRegInfo(), registration() | {"suppFeat": None})


@pytest.mark.parametrize(
    "data",
    [{}, {"clients": ["ue-1"], "selCriteria": {"serviceReq": {"valServId": "v"}}}],
    ids=["none", "both"],
)
def test_exactly_one_of_several_attributes(data: dict[str, Any]) -> None:
    """Of attributes that exclude each other exactly one is there; the error names them all."""
    if "selCriteria" in data:
        data["selCriteria"] |= {"aimlOpers": ["MODEL_TRAINING"], "clientAppCap": {"appType": "FL"}}
    reason = "exactly one of clients, selCriteria is needed"
    assert errors(ClientSelReq(), data) == {"clients": [reason], "selCriteria": [reason]}


def test_at_least_one_of_several_attributes() -> None:
    """Where one of several attributes is needed, the error names them; with any of them all is well."""
    names = ("vendors", "interopInfo", "phaseInfo", "storeDiscReqs")
    reason = f"at least one of {', '.join(names)} is needed"
    assert errors(MLModel(), {"mlModelId": "m"}) == {name: [reason] for name in names}
    assert MLModel().load({"mlModelId": "m", "vendors": ["v"], "interopInfo": "onnx"})


def test_wrong_attribute_is_not_also_called_missing() -> None:
    """An attribute that is there but wrong is reported for what is wrong with it."""
    assert errors(ClientSelReq(), {"clients": []}) == {"clients": ["Shorter than minimum length 1."]}


def test_end_point_has_one_kind_of_address() -> None:
    """An end point is a URI, a name, IPv4 or IPv6 addresses, never two of them."""
    assert EndPoint().load({"uri": "http://m.example.com/1"})
    assert set(errors(EndPoint(), {"uri": "http://m.example.com/1", "fqdn": "m.example.com"})) == {
        "uri",
        "fqdn",
        "ipv4Addrs",
        "ipv6Addrs",
    }


def test_days_of_week_are_at_most_six() -> None:
    """All seven days are said by leaving the attribute out: the standard takes six entries."""
    assert ScheduledCommunicationTime().load({"daysOfWeek": [1, 2, 3, 4, 5, 6]})
    assert "daysOfWeek" in errors(ScheduledCommunicationTime(), {"daysOfWeek": [1, 2, 3, 4, 5, 6, 7]})


def test_slips_of_the_standard_are_kept() -> None:
    """A notification's `trainingID` is spelt as in the official document, another spelling is unknown."""
    assert MlModelTrainNotif().load({"trainingID": "t", "trainingId": "u"}) == {"trainingID": "t"}


def test_participation_request_names_everything_missing() -> None:
    """An empty request is refused with the name of each attribute that it needs."""
    assert set(errors(AimlecParticipationReq(), {})) == {
        *("requesterId", "clientSetId", "clientSetPart", "mlModelId"),
        *("schedAimlOperations", "dataSetReq", "serviceReq"),
    }


@pytest.mark.parametrize("data", [[], "text", 5, None], ids=repr)
def test_other_json_than_an_object_is_refused(data: Any) -> None:
    """A body that is no object is refused, not a failure of the server."""
    assert errors(TrainRequest(), data) == {"_schema": ["Invalid input type."]}


def test_discovery_answers_with_profiles_or_models() -> None:
    """An answer has profiles or models, and an empty list is not a way to have neither."""
    assert "profiles" in errors(DiscoveryResp(), {"profiles": []})


def circle(**other: Any) -> dict[str, Any]:
    """A circle around a point."""
    return {
        "shape": "POINT_UNCERTAINTY_CIRCLE",
        "point": {"lon": 24.9, "lat": 60.2},
        "uncertainty": 50,
    } | other


def test_area_is_checked_by_its_shape() -> None:
    """An area has what its shape needs and keeps nothing else; other shapes' attributes are unknown."""
    area = LocationArea5G()
    assert area.load({"geographicAreas": [circle(altitude=3)]}) == {"geographicAreas": [circle()]}
    found = errors(area, {"geographicAreas": [circle(shape="ELLIPSOID_ARC")]})
    assert set(found["geographicAreas"][0]) == {
        *("innerRadius", "uncertaintyRadius", "offsetAngle", "includedAngle", "confidence")
    }


@pytest.mark.parametrize("area", [circle(shape="SQUARE"), circle(shape=["POINT"]), {}, "POINT", None])
def test_area_without_a_known_shape_is_refused(area: Any) -> None:
    """What cannot be an area is refused with an error at its place."""
    assert 0 in errors(LocationArea5G(), {"geographicAreas": [area]})["geographicAreas"]


FLAT, UP = {"hSpeed": 50, "bearing": 90}, {"vSpeed": 1.5, "vDirection": "UPWARD"}


@pytest.mark.parametrize(
    "velocity",
    [FLAT, FLAT | UP, FLAT | {"hUncertainty": 5}, FLAT | UP | {"hUncertainty": 5, "vUncertainty": 1}],
)
def test_velocity_is_of_one_of_four_types(velocity: dict[str, Any]) -> None:
    """A velocity has as much of height and uncertainty as is known, and keeps nothing else."""
    member = {
        "flMbrId": "m",
        "flMbrSuppGrp": {"flGroupId": "g"},
        "suppAimlRole": "FL_CLIENT",
        "flMbrAvailSch": [{}],
    }
    loaded = FlMbr().load(member | {"flMbrVelocity": velocity | {"other": 1}})
    assert loaded == member | {"flMbrVelocity": velocity}


@pytest.mark.parametrize(
    ("velocity", "missing"),
    [
        ({}, {"hSpeed", "bearing"}),
        (FLAT | {"vSpeed": 1}, {"vDirection"}),
        (FLAT | UP | {"hUncertainty": 5}, {"vUncertainty"}),
        (FLAT | {"vUncertainty": 1}, {"vSpeed", "vDirection", "hUncertainty"}),
        (FLAT | UP | {"vDirection": "SIDEWAYS"}, {"vDirection"}),
    ],
)
def test_velocity_is_whole(velocity: dict[str, Any], missing: set[str]) -> None:
    """What is given of a velocity says what else it needs."""
    assert set(errors(FlMbr(), {"flMbrVelocity": velocity})["flMbrVelocity"]) == missing


def test_training_profile_is_complete_once_loaded() -> None:
    """Whoever stores a training profile stores the defaults of what was left out, but those of the server."""
    loaded = TrainingProfile().load({"strategy": "FEDPROX", "proximalMu": 0.1})
    assert (loaded["strategy"], loaded["proximalMu"], loaded["localEpochs"]) == ("FEDPROX", 0.1, 1)
    settings, reductions = {"roundTimeout", "minReports"}, {"updateDtype", "updateDelta", "updateCompression"}
    assert set(TrainingProfile().fields) - set(loaded) == settings | reductions


def test_training_profile_knows_its_strategies() -> None:
    """The strategies are our own, so an unknown one is an error and not a later release."""
    assert set(errors(TrainingProfile(), {"strategy": "FEDMAGIC", "minReports": 1.1})) == {
        "strategy",
        "minReports",
    }

"""The builders of criteria and objectives: what they refuse, naming what there is."""

from typing import Any

import pytest

from aimle_client.val import (
    FLEvents,
    Objective,
    Reporting,
    discovery_criteria,
    member_criteria,
    model_criteria,
)
from schemas.fl_events import EvtInfo


@pytest.mark.parametrize(
    ("build", "wrong", "reason"),
    [
        (discovery_criteria, {"permission": "PREMIUM_RESOURCE_USAGE"}, "PREMIUM, STANDARD, LIMITED"),
        (discovery_criteria, {"learning": "FEDERATED"}, "learning: 'FEDERATED' is none of FL, TL, SL"),
        (
            discovery_criteria,
            {"operations": ["TRAINING"]},
            "operations: 'TRAINING' is none of MODEL_TRAINING",
        ),
        (discovery_criteria, {"model_types": ["NEURAL_NETWORK"]}, "NEURAL_NETWORKS"),
        (discovery_criteria, {"data_type": "raw"}, "RAW, PROCESSED"),
        (discovery_criteria, {"compute": "MEDIUM"}, "LOW, HIGH"),
        (discovery_criteria, {"performance": "FAST"}, "GREEN_TASK"),
        (discovery_criteria, {"velocity": "MOBILE"}, "MOBILE_LOW"),
        (discovery_criteria, {"max_dropout": 101}, "max_dropout: 101 is not from 0 to 100"),
        (discovery_criteria, {"min_size": -1}, "min_size: -1 is not at least 0"),
        (member_criteria, {"learning": "FL"}, "FEDERATED_LEARNING"),
        (member_criteria, {"resources": "STANDARD"}, "STANDARD_RESOURCE_USAGE"),
        (model_criteria, {"phase": "READY"}, "phase: 'READY' is none of NOT_TRAINED"),
        (model_criteria, {"usages": ["TRAINED"]}, "TRAINING, INFERENCE"),
        (model_criteria, {"domain": "IMAGES"}, "IMAGE_RECOGNITION"),
        (Objective, {"metric": "accuracy"}, "metric: 'accuracy' is none of ACCURACY"),
        (Objective, {"target": 250}, "target: 250 is not from 0 to 1"),
        (Objective, {"acceptable_error": -0.1}, "acceptable_error"),
        (Objective, {"metric": "MEAN_SQUARED_ERROR", "target": -1}, "target: -1 is not at least 0"),
        (Objective, {"target": float("nan")}, "target"),
        (Objective, {"patience": 0}, "patience: 0 is not at least 1"),
        (Objective, {"max_epochs": 0}, "max_epochs"),
        (Reporting, {"periodic": 60, "once": True}, "only one of them"),
        (Reporting, {"periodic": 0}, "periodic: 0 is not at least 1"),
        (Reporting, {"most": 0}, "most"),
        (FLEvents, {"accuracy": 101}, "accuracy: 101 is not from 0 to 100"),
        (FLEvents, {"load": -1}, "load: -1 is not at least 0"),
        (Objective, {"min_delta": -1}, "min_delta"),
        (Objective, {"latency": float("inf")}, "latency"),
    ],
)
def test_a_typing_mistake_is_named(build: Any, wrong: dict[str, Any], reason: str) -> None:
    """A value that the server would take and that nobody has is a ValueError, with the values that there are."""
    required = ("val-vision",) if build is discovery_criteria else ()
    build(*required)
    with pytest.raises(ValueError, match=reason):
        build(*required, **wrong)


@pytest.mark.parametrize("argument", ["datasets", "features", "functions", "operations", "model_types"])
def test_a_text_is_no_list(argument: str) -> None:
    """One text would be taken for its letters."""
    with pytest.raises(TypeError, match=rf"{argument}: .*\['digits'\]"):
        discovery_criteria("val-vision", **{argument: "digits"})  # type: ignore[arg-type]


def test_an_error_has_the_unit_of_the_data() -> None:
    """A target for an error may be above one, one for a score may not."""
    assert Objective("MEAN_SQUARED_ERROR", target=250).to_wire()["targetValue"] == 250


def test_events_of_fl() -> None:
    """All three parts of the type are said, and an empty schedule is any time."""
    kind = FLEvents("FL_MEMBER_LOAD", leaving_only=True, load=70).to_wire()
    assert not EvtInfo().validate(kind)
    assert kind == {
        "evtId": "FL_MEMBER_LOAD",
        "evtType": {
            "availFlMbr": "UNAVAILABLE",
            "flMdlInfo": {"accuracy": 100, "timeSchedule": [{}], "latency": 0},
            "flMbrLdInfo": 70,
        },
    }

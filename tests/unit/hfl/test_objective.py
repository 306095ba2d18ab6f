"""The training objective: targets, errors, early stopping, and how the wire says them."""

from datetime import UTC, datetime

import pytest

from aimle_server.hfl.objective import Objective, StopConditions


def test_of_request() -> None:
    """The wire's objective: per cent becomes a fraction, epochs become rounds of `localEpochs`."""
    wire = {
        "objType": "RECALL",
        "targetValue": 93,
        "maxEpochs": 7,
        "earlyStopCri": {"minDelta": 0.01, "patience": 3},
        "accTrainingErr": 0.2,
    }
    assert Objective.of_request(wire, local_epochs=2, max_rounds=100) == Objective(
        metric="recall", target=0.93, min_delta=0.01, patience=3, max_rounds=4, acceptable_error=0.2
    )


def test_the_servers_limit_of_rounds_holds() -> None:
    """Nobody gets more rounds than the server allows."""
    assert Objective.of_request({"objType": "ACCURACY", "maxEpochs": 10**6}, 1, 50).max_rounds == 50
    assert Objective.of_request(None, 1, 50).max_rounds == 50


@pytest.mark.parametrize(
    ("objective", "metrics", "reached"),
    [
        (Objective(target=0.9), {"accuracy": 0.9}, True),
        (Objective(target=0.9), {"accuracy": 0.899}, False),
        (Objective(target=0.9), {"recall": 1.0}, False),
        (Objective(metric="mse", target=0.1), {"mse": 0.1}, True),
        (Objective(metric="mse", target=0.1), {"mse": 0.11}, False),
        (Objective(acceptable_error=0.2), {"accuracy": 0.85}, True),
        (Objective(acceptable_error=0.2), {"accuracy": 0.75}, False),
        (Objective(target=0.9, acceptable_error=0.05), {"accuracy": 0.92}, False),
        (Objective(target=0.9, max_latency=0.01), {"accuracy": 0.95, "latency": 0.02}, False),
        (Objective(target=0.9, max_latency=0.01), {"accuracy": 0.95, "latency": 0.005}, True),
        (Objective(target=0.9, max_latency=0.01), {"accuracy": 0.95}, False),
        (Objective(), {"accuracy": 1.0}, False),
    ],
)
def test_reached(objective: Objective, metrics: dict[str, float], reached: bool) -> None:
    """A score reaches its target from below, an error from above, and bounds on error and latency hold too."""
    assert objective.reached(metrics) is reached


@pytest.mark.parametrize(
    ("metric", "values", "stalled"),
    [
        ("accuracy", [0.1, 0.5, 0.5], False),
        ("accuracy", [0.5, 0.5, 0.5], True),
        ("accuracy", [0.5, 0.505, 0.509], True),
        ("accuracy", [0.5, 0.4, 0.52], False),
        ("accuracy", [0.5, 0.4], False),
        ("mse", [0.5, 0.6, 0.3], False),
        ("mse", [0.5, 0.6, 0.499], True),
    ],
)
def test_stalled(metric: str, values: list[float], stalled: bool) -> None:
    """Two rounds without an improvement of 0.01 over the best before them are a stall."""
    assert Objective(metric=metric, patience=2, min_delta=0.01).stalled(values) is stalled


def test_no_patience_never_stalls() -> None:
    """Without `earlyStopCri` a training is not stopped early."""
    assert not Objective().stalled([0.5] * 100)


def test_no_patience_at_all() -> None:
    """`patience` 0 stops at the first round without improvement, as 1 does."""
    wire = {"objType": "ACCURACY", "earlyStopCri": {"patience": 0}}
    objective = Objective.of_request(wire, 1, 50)
    assert not objective.stalled([0.5])
    assert objective.stalled([0.5, 0.5])


def test_stop_conditions() -> None:
    """An accuracy or a moment, whichever comes first."""
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    conditions = StopConditions(accuracy=0.9, at=noon)
    assert not conditions.met({"accuracy": 0.89}, noon.replace(hour=11))
    assert conditions.met({"accuracy": 0.9}, noon.replace(hour=11))
    assert conditions.met({}, noon)

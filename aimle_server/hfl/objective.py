"""The training objective (TS 23.482 table 8.3.3.1-2) and the stop conditions of 8.20, as pure rules.

A *score* is a metric that grows with quality (accuracy, precision, recall); an *error* falls
(mean squared, mean absolute). The wire gives no unit for `targetValue`: for scores a value above 1 is read
as per cent. One epoch is one pass over the local data, so a round of `localEpochs` counts that many.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

METRIC_OF = {
    "ACCURACY": "accuracy",
    "PRECISION": "precision",
    "RECALL": "recall",
    "MEAN_SQUARED_ERROR": "mse",
    "MEAN_ABSOLUTE_ERROR": "mae",
}
"""`objType` to the name under which clients report that metric."""

ERRORS = frozenset({"mse", "mae"})


@dataclass(frozen=True)
class Objective:
    """When a training has reached what was asked of it.

    Attributes:
        metric: name of the metric that decides.
        target: value to reach (at least, for scores; at most, for errors); None: no target.
        min_delta: an improvement smaller than this counts as none (`earlyStopCri.minDelta`).
        patience: rounds in a row without improvement after which training stops; None: never.
        max_rounds: rounds of aggregation at most.
        acceptable_error: largest error (1 - score, or the error itself) the result may have; None: any.
        max_latency: largest inference latency of the result, seconds per sample; None: any.
    """

    metric: str = "accuracy"
    target: float | None = None
    min_delta: float = 0.0
    patience: int | None = None
    max_rounds: int = 100
    acceptable_error: float | None = None
    max_latency: float | None = None

    @classmethod
    def of_request(cls, wire: Mapping[str, Any] | None, local_epochs: int, max_rounds: int) -> Self:
        """The objective of a TrainRequest's `trainObj`; `max_rounds` is the server's own limit.

        Raises:
            KeyError: an `objType` that names no metric of `METRIC_OF`.
        """
        if wire is None:
            return cls(max_rounds=max_rounds)
        metric = METRIC_OF[wire["objType"]]
        early = wire.get("earlyStopCri") or {}
        rounds = math.ceil(wire["maxEpochs"] / local_epochs) if wire.get("maxEpochs") else max_rounds
        return cls(
            metric=metric,
            target=_fraction(metric, wire.get("targetValue")),
            min_delta=abs(early.get("minDelta", 0.0)),
            patience=max(1, early["patience"]) if "patience" in early else None,
            max_rounds=min(rounds, max_rounds),
            acceptable_error=_fraction(metric, wire.get("accTrainingErr")),
            max_latency=wire.get("inferenceLatency"),
        )

    def reached(self, metrics: Mapping[str, float]) -> bool:
        """Whether a model with these metrics is what was asked for; without a target, never."""
        value = metrics.get(self.metric)
        if value is None:
            return False
        if self.target is not None:
            return self.acceptable(metrics) and not self._worse(value, self.target)
        return self.acceptable_error is not None and self.acceptable(metrics)

    def acceptable(self, metrics: Mapping[str, float]) -> bool:
        """Whether the error and the latency of a model with these metrics are within what is accepted."""
        latency_ok = self.max_latency is None or metrics.get("latency", math.inf) <= self.max_latency
        return latency_ok and (self.acceptable_error is None or self.error(metrics) <= self.acceptable_error)

    def error(self, metrics: Mapping[str, float]) -> float:
        """The error that `acceptable_error` bounds; infinite where nobody measured."""
        value = metrics.get(self.metric)
        if value is None:
            return math.inf
        return value if self.metric in ERRORS else 1.0 - value

    def stalled(self, values: Sequence[float]) -> bool:
        """Whether the last `patience` values brought no improvement of at least `min_delta`."""
        if self.patience is None or len(values) <= self.patience:
            return False
        before, after = values[: -self.patience], values[-self.patience :]
        best = self.best(before)
        return not any(self._improves(value, best) for value in after)

    def best(self, values: Sequence[float]) -> float:
        """The best of some values of the metric."""
        return min(values) if self.metric in ERRORS else max(values)

    def _improves(self, value: float, best: float) -> bool:
        gain = best - value if self.metric in ERRORS else value - best
        return gain > 0 and gain >= self.min_delta

    def _worse(self, value: float, than: float) -> bool:
        return value > than if self.metric in ERRORS else value < than


@dataclass(frozen=True)
class StopConditions:
    """When an operation stops by itself (`confModes` of TS 23.482 8.20).

    Attributes:
        accuracy: stop as soon as the accuracy is at least this, as a fraction.
        at: stop at this moment.
    """

    accuracy: float | None = None
    at: datetime | None = None

    def met(self, metrics: Mapping[str, float], now: datetime) -> bool:
        """Whether one of the conditions holds."""
        accurate = self.accuracy is not None and metrics.get("accuracy", -1.0) >= self.accuracy
        return accurate or (self.at is not None and now >= self.at)


def _fraction(metric: str, value: float | None) -> float | None:
    """Scores are fractions; the wire may give them in per cent."""
    if value is None or metric in ERRORS or value <= 1:
        return value
    return value / 100

"""What a client tells of a round: HflTrngNotify (TS 23.482 8.12.3.3), and its record for the application.

The member `aimle` of the notification is ours: the round, precise figures, the numbers of samples and the load of the
machine, which PerfParams cannot hold. A plain 3GPP server ignores it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from aimle_client.runtime.load import machine_load
from sbi.clock import to_wire

PERFORMANCE_ERRORS = "PERFORMANCE_ERRORS"
"""The TrainingErr of a round that failed: the enumeration has nothing closer."""

MOST_TOLD = 200
"""Characters of a reason that the server is told."""

_PATH = re.compile(r"""(['"])[^'"\n]*[/\\][^'"\n]*\1|[^\s'"]*[/\\][^\s'"]*""")
"""A quoted text with a slash in it, or a word with one: what may be a path."""

_PERF_PARAMS = {
    "precision": "modelPrecision",
    "recall": "modelRecall",
    "f1": "modelF1score",
    "mse": "errorMeanSquare",
    "mae": "errorMeanAbs",
}


class Outcome(StrEnum):
    """How a round ended at this client."""

    TRAINED = "TRAINED"
    EVALUATED = "EVALUATED"
    FAILED = "FAILED"
    DISCARDED = "DISCARDED"
    TRANSFERRED = "TRANSFERRED"


@dataclass(frozen=True)
class RoundReport:
    """One round as this client saw it.

    Attributes:
        subscription_id: of which subscription.
        dataset: trained and evaluated on.
        round: the round's number, None if the model was not received or does not say.
        outcome: TRAINED (update sent), EVALUATED (only that was asked for), FAILED, DISCARDED (a newer
            round, a withdrawal or a stop came first; nothing was sent), or TRANSFERRED (another client goes on).
        num_samples: samples trained on.
        num_eval_samples: samples the received model was evaluated on.
        metrics: of the received model, name to value: `accuracy` (0 to 1), `loss`, `mse`...
        fit_metrics: of the local training.
        reason: what failed, in words; empty otherwise. The server is told it shortened and without paths.
    """

    subscription_id: str
    dataset: str
    round: int | None
    outcome: Outcome
    num_samples: int = 0
    num_eval_samples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    fit_metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def notification(report: RoundReport, service: str, now: datetime) -> dict[str, Any]:
    """The HflTrngNotify for a round of this VAL service."""
    extension: dict[str, Any] = {
        "numSamples": report.num_samples,
        "numEvalSamples": report.num_eval_samples,
        "metrics": dict(report.metrics),
    }
    if report.round is not None:
        extension["round"] = report.round
    if (load := machine_load()) is not None:
        extension["load"] = load
    body = {
        "vaSrvId": service,
        "hflTrngOut": perf_params(report.metrics),
        "timestamp": to_wire(now),
        "aimle": extension,
    }
    if report.outcome is Outcome.FAILED:
        body["hflTrngErr"] = PERFORMANCE_ERRORS
        if reason := told(report.reason):
            extension["reason"] = reason
    return body


def told(reason: str) -> str:
    """A reason as the server is told it: in one line, bounded, and without paths and addresses of this device."""
    return " ".join(_PATH.sub("...", reason).split())[:MOST_TOLD]


def perf_params(metrics: Mapping[str, float]) -> dict[str, float | int]:
    """Metrics as PerfParams; `modelAccuracy` is a whole number of per cent, so it must lie in 0 to 1."""
    params: dict[str, float | int] = {
        wire: metrics[name] for name, wire in _PERF_PARAMS.items() if name in metrics
    }
    if 0 <= metrics.get("accuracy", -1) <= 1:
        params["modelAccuracy"] = round(100 * metrics["accuracy"])
    return params


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that JSON can say: NaN and infinities are left out."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}

"""The part of a round that computes: model file in, evaluation, training, update file out. Runs in a thread."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimle_client.runtime.reduction import reduced
from aimle_client.runtime.report import finite
from aimle_client.trainers.base import Parameters, Trainer
from sbi import tensors, zstd
from sbi.reduced import coding_of


@dataclass(frozen=True)
class Learned:
    """What evaluating, and perhaps training, gave; metrics by name, without NaN and infinities.

    Attributes:
        num_eval_samples, metrics: of the received model on local data.
        num_samples, fit_metrics: of the local training; 0 and empty without one.
        coding: the content coding of the update's file, if it has one.
    """

    num_eval_samples: int
    metrics: Mapping[str, float]
    num_samples: int = 0
    fit_metrics: Mapping[str, float] | None = None
    coding: str | None = None


def round_of(received: Path) -> int | None:
    """The round that a model file says it is for; None when it says nothing.

    Raises:
        InvalidTensors: not a model file.
        ValueError: the round is not a number.
    """
    text = tensors.describe(received).metadata.get("aimle.round")
    return None if text is None else int(text)


def learn(
    trainer: Trainer, received: Path, update: Path, samples: int, obsolete: Callable[[], bool]
) -> Learned:
    """Evaluate the model at `received` and, unless `samples` is 0, train it and write the file `update`.

    Args:
        samples: `noDataSamp`, how many samples to train on at most.
        obsolete: asked between the steps; when it says so, the rest is left out.
    """
    parameters, metadata = tensors.read(received)
    learned = _evaluate(trainer, parameters)
    if samples == 0 or obsolete():
        return learned
    config = _config(metadata, samples)
    fit = trainer.fit(parameters, config)
    learned = Learned(
        learned.num_eval_samples,
        learned.metrics,
        fit.num_samples,
        fit_metrics=finite(fit.metrics),
        coding=coding_of(config),
    )
    if not obsolete():
        less = reduced(fit.parameters, parameters, config)
        about = {**_metadata(learned, metadata), **less.metadata}
        tensors.write(update, less.arrays, about, less.dtypes)
        if learned.coding:
            zstd.pack(update)
    return learned


def _evaluate(trainer: Trainer, parameters: Parameters) -> Learned:
    """The trainer's evaluation, and with it `latency`: seconds that it took per sample on this device."""
    began = time.perf_counter()
    evaluation = trainer.evaluate(parameters)
    latency = (time.perf_counter() - began) / max(1, evaluation.num_samples)
    return Learned(evaluation.num_samples, {"latency": latency, **finite(evaluation.metrics)})


def _config(metadata: Mapping[str, str], samples: int) -> dict[str, Any]:
    """The training profile, and what a trainer needs to know of the round."""
    config: dict[str, Any] = json.loads(metadata.get("aimle.config", "{}"))
    return config | {"round": int(metadata.get("aimle.round", 0)), "noDataSamp": samples}


def _metadata(learned: Learned, received: Mapping[str, str]) -> dict[str, str]:
    """The update's metadata: which round it answers, its weight, and both sets of metrics."""
    kept = {name: received[name] for name in ("aimle.training", "aimle.round") if name in received}
    return kept | {
        "aimle.num_samples": str(learned.num_samples),
        "aimle.num_eval_samples": str(learned.num_eval_samples),
        "aimle.metrics": json.dumps(learned.metrics),
        "aimle.fit_metrics": json.dumps(learned.fit_metrics),
    }

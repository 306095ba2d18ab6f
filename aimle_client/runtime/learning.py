"""The part of a round that computes: model in, evaluation, training, update out. Runs in a thread."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aimle_client.runtime.reduction import reduced
from aimle_client.runtime.reins import Reins
from aimle_client.runtime.report import finite
from aimle_client.trainers.base import FitResult, Parameters, Trainer
from aimle_client.trainers.resumable import FitState, is_resumable
from sbi import tensors, zstd
from sbi.digests import Buffer
from sbi.reduced import coding_of


@dataclass(frozen=True)
class Received:
    """A global model, and the metadata that came with it."""

    parameters: Parameters
    metadata: Mapping[str, str]

    @property
    def round(self) -> int | None:
        """The round that it is for, None when it does not say.

        Raises:
            ValueError: that is not a number.
        """
        text = self.metadata.get("aimle.round")
        return None if text is None else int(text)


@dataclass(frozen=True)
class Learned:
    """What evaluating, and perhaps training, gave; metrics by name, without NaN and infinities.

    Attributes:
        num_eval_samples, metrics: of the received model on local data.
        num_samples, fit_metrics: of the local training; 0 and None without one.
        update: the file to send, in buffers; empty without one.
        coding: the content coding of that file, if it has one.
    """

    num_eval_samples: int
    metrics: Mapping[str, float]
    num_samples: int = 0
    fit_metrics: Mapping[str, float] | None = None
    update: list[Buffer] = field(default_factory=list)
    coding: str | None = None


def received(content: bytearray) -> Received:
    """The model file with this content.

    Raises:
        InvalidTensors: it is none.
    """
    return Received(*tensors.load(content))


def learn(
    trainer: Trainer,
    model: Received,
    samples: int,
    obsolete: Callable[[], bool],
    reins: Reins,
    state: FitState | None = None,
) -> Learned:
    """Evaluate the model and, unless `samples` is 0, train it and make an update of it.

    Args:
        samples: `noDataSamp`, how many samples to train on at most.
        obsolete: asked between the steps; when it says so, the rest is left out.
        reins: of the training, if the trainer is resumable; a training that is left makes no update.
        state: where to go on; None: from the model.
    """
    learned = _evaluate(trainer, model.parameters)
    if samples == 0 or obsolete():
        return learned
    config = _config(model.metadata, samples)
    fit = _fit(trainer, model, config, reins, state)
    if fit is None:
        return learned
    learned = replace(
        learned, num_samples=fit.num_samples, fit_metrics=finite(fit.metrics), coding=coding_of(config)
    )
    if obsolete():
        return learned
    less = reduced(fit.parameters, model.parameters, config)
    about = {**_metadata(learned, model.metadata), **less.metadata}
    update = tensors.dump(less.arrays, about, less.dtypes)
    return replace(learned, update=list(zstd.packed(update)) if learned.coding else update)


def _fit(
    trainer: Trainer, model: Received, config: Mapping[str, Any], reins: Reins, state: FitState | None
) -> FitResult | None:
    """What training came to; None: it was left."""
    if not is_resumable(trainer):
        return trainer.fit(model.parameters, config)
    if state is None:
        return reins.run(trainer.begin(model.parameters, config))
    return reins.run(trainer.load_state(state))


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

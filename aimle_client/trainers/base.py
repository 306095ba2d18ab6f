"""What a trainer is, what it gets and what it returns (the AIMLE client's part of HFL, TS 23.482 8.12)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Parameters = dict[str, Array]
"""A model: tensor name -> values. The names, shapes and dtypes are those of the global model."""


@dataclass(frozen=True)
class Dataset:
    """Local data: `inputs` [n, features], and per row one of `targets` [n] (a class index, or a number)."""

    inputs: Array
    targets: Array

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or len(self.targets) == 0:
            raise ValueError(
                f"{len(self.inputs)} inputs and {len(self.targets)} targets: one of each per sample"
            )

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class FitResult:
    """A local model, how many samples it was trained on (its weight in the mean), and what training showed."""

    parameters: Parameters
    num_samples: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class EvalResult:
    """What a model is worth on `num_samples` local samples that are not trained on."""

    num_samples: int
    metrics: dict[str, float]


class Trainer(Protocol):
    """Learns from local data. Synchronous and CPU-bound: an event loop calls it in a thread.

    A call changes neither its arguments nor the trainer, so calls in several threads do not disturb each other.
    """

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Train from `parameters` as `config` says, which is a training profile (see TrainingConfig)."""

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """Measure `parameters` on the local held-out data."""


@dataclass(frozen=True)
class TrainingConfig:
    """The client's part of a training profile; each field has the profile's attribute in its docstring.

    Our AIMLE server sends all of this with each round, with its own defaults where nobody said anything, and
    `proximalMu` with FEDPROX only. The defaults here, the same, are for a server without training profiles.
    """

    local_epochs: int = 1
    """`localEpochs`: passes over the samples in one round, at least 1."""
    batch_size: int = 32
    """`batchSize`: samples per step, at least 1."""
    learning_rate: float = 0.01
    """`learningRate`: size of a step, above 0."""
    proximal_mu: float = 0.0
    """`proximalMu`: strength of FedProx's pull towards the global model, 0 for none."""
    seed: int = 0
    """`seed`: with the round, decides the order of the samples; at least 0."""
    round: int = 0
    """`round`: number of the round, so that each round draws anew; at least 0."""
    max_samples: int | None = None
    """`noDataSamp`: samples to train on in one round, at least 1; all of them if absent."""

    @classmethod
    def from_mapping(cls, profile: Mapping[str, Any]) -> "TrainingConfig":
        """The fields that `profile` has, under the attribute names above; others are ignored.

        ValueError names the attribute that is of the wrong type or out of range.
        """
        return cls(
            **{
                field: _number(attribute, profile[attribute], kind, least)
                for attribute, (field, kind, least) in _ATTRIBUTES.items()
                if profile.get(attribute) is not None
            }
        )

    def to_mapping(self) -> dict[str, Any]:
        """The profile that `from_mapping` makes this of."""
        return {attribute: getattr(self, field) for attribute, (field, _, _) in _ATTRIBUTES.items()}

    def rng(self) -> np.random.Generator:
        """The randomness of this round: the same for the same seed and round."""
        return np.random.default_rng([self.seed, self.round])

    def num_samples(self, available: int) -> int:
        """How many of the available samples this round trains on."""
        return available if self.max_samples is None else min(available, self.max_samples)

    def epochs(self, available: int) -> Iterator[list[npt.NDArray[np.intp]]]:
        """Per epoch the batches, each an array of sample indices below `available`.

        One round draws its samples once and goes over the same ones, shuffled, in every epoch.
        """
        rng = self.rng()
        chosen = rng.permutation(available)[: self.num_samples(available)]
        for _ in range(self.local_epochs):
            order = rng.permutation(chosen)
            yield [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]


_ATTRIBUTES: Mapping[str, tuple[str, type, float]] = {
    "localEpochs": ("local_epochs", int, 1),
    "batchSize": ("batch_size", int, 1),
    "learningRate": ("learning_rate", float, np.nextafter(0, 1)),
    "proximalMu": ("proximal_mu", float, 0),
    "seed": ("seed", int, 0),
    "round": ("round", int, 0),
    "noDataSamp": ("max_samples", int, 1),
}
"""Attribute of the profile -> (field, type, least value)."""


def _number(attribute: str, value: Any, kind: type, least: float) -> Any:
    accepted = (int,) if kind is int else (int, float)
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise ValueError(f"{attribute}: {value!r} is not {'an integer' if kind is int else 'a number'}")
    if not least <= value < float("inf"):
        raise ValueError(f"{attribute}: {value!r} is out of range")
    return kind(value)


def check_like(parameters: Parameters, expected: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError naming the first tensor that is missing, unknown or of another shape than `expected`."""
    for name in sorted(parameters.keys() | expected.keys()):
        if name not in parameters or name not in expected:
            raise ValueError(f"tensor {name!r} is {'missing' if name in expected else 'not in this model'}")
        if parameters[name].shape != expected[name]:
            raise ValueError(f"tensor {name!r} has shape {parameters[name].shape}, not {expected[name]}")


def check_finite(parameters: Parameters) -> None:
    """FloatingPointError if training ran away: a server refuses such an update anyway."""
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise FloatingPointError(f"training diverged: {name!r} is not finite (is learningRate too high?)")

"""Trainings that can stop between two steps and go on elsewhere (TS 23.482 8.6): what a trainer may offer beyond `fit`.

A trainer with `begin` and `load_state` is resumable: what it begins is a `Fit`, which takes one step at a time and
whose state can be saved between any two. A fit that was moved gives the result of one that was not, to the bit, as long
as both sides have the same samples; a trainer refuses a state of another number of samples.

The state is for the trainer to say: arrays, and plain JSON for the rest. It travels as a safetensors file.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from aimle_client.trainers.base import FitResult, Parameters, Trainer, TrainingConfig
from sbi import tensors
from sbi.digests import Buffer

DETAILS = "aimle.fit"
"""Attribute of the file's metadata that holds `FitState.details` as JSON."""


@dataclass(frozen=True)
class FitState:
    """Where a fit stands.

    Attributes:
        arrays: parameters, optimizer state, random state: what is an array.
        details: everything else, as plain JSON data.
    """

    arrays: Parameters
    details: Mapping[str, Any] = field(default_factory=dict)

    def dump(self, metadata: Mapping[str, str]) -> list[Buffer]:
        """The state as a file with this metadata, in buffers."""
        return tensors.dump(self.arrays, {**metadata, DETAILS: json.dumps(dict(self.details))})

    @classmethod
    def load(cls, content: bytearray) -> tuple["FitState", Mapping[str, str]]:
        """The state in a file, and the file's metadata.

        Raises:
            ValueError: it is no state of a fit; tensors.InvalidTensors is one of these.
        """
        arrays, metadata = tensors.load(content)
        details = json.loads(metadata.get(DETAILS, "null"))
        if not isinstance(details, dict):
            raise ValueError("the file is not the state of a training")
        return cls(arrays, details), metadata


class Fit(Protocol):
    """A local training under way. Not for two threads at once."""

    @property
    def done(self) -> int:
        """Steps taken."""
        ...

    @property
    def total(self) -> int:
        """Steps in all; at least one."""
        ...

    def step(self) -> None:
        """Take the next step; only while `done` is below `total`."""
        ...

    def save_state(self) -> FitState:
        """A copy of where it stands, which later steps do not change."""
        ...

    def result(self) -> FitResult:
        """What it came to; only when all steps are taken."""
        ...


class ResumableTrainer(Trainer, Protocol):
    """A trainer whose trainings can be moved; its `fit` is `run(begin(...))`."""

    def begin(self, parameters: Parameters, config: Mapping[str, Any]) -> Fit:
        """A training that has not taken a step yet; arguments as of `fit`."""
        ...

    def load_state(self, state: FitState) -> Fit:
        """A training that goes on where the state was saved.

        Raises:
            ValueError: it is no state of this trainer's model, or of another number of samples.
        """
        ...


def is_resumable(trainer: Trainer) -> TypeGuard[ResumableTrainer]:
    """Whether the trainer has the optional methods."""
    return callable(getattr(trainer, "begin", None)) and callable(getattr(trainer, "load_state", None))


def run(fit: Fit) -> FitResult:
    """Take all steps that are left."""
    while fit.done < fit.total:
        fit.step()
    return fit.result()


class Batches:
    """The samples of each step of one fit, those of `TrainingConfig.epochs`, from any step on.

    Args:
        config: says how many epochs, samples and batches.
        available: how many samples there are.
        details: of an earlier `save`; None: from the first step on.

    Raises:
        ValueError: `details` are not of these samples.
    """

    def __init__(
        self, config: TrainingConfig, available: int, details: Mapping[str, Any] | None = None
    ) -> None:
        rng = config.rng()
        self._rng = rng
        self._chosen = rng.permutation(available)[: config.num_samples(available)]
        self._size, self._available = config.batch_size, available
        self.per_epoch = -(-len(self._chosen) // config.batch_size)
        self.total = self.per_epoch * config.local_epochs
        self.done = 0
        self._begin_epoch()
        if details is not None:
            self._restore(details)

    @property
    def begins_epoch(self) -> bool:
        """Whether the next step is the first of an epoch."""
        return self.done % self.per_epoch == 0

    def next(self) -> npt.NDArray[np.intp]:
        """Indices of the next step's samples."""
        if self.begins_epoch and self.done:
            self._begin_epoch()
        at = self.done % self.per_epoch * self._size
        self.done += 1
        return self._order[at : at + self._size]

    def save(self) -> dict[str, Any]:
        """Which step comes next, and the random state that the present epoch began with."""
        ended = self.begins_epoch and self.done
        random = self._rng.bit_generator.state if ended else self._before
        return {"samples": self._available, "done": self.done, "random": random}

    def _begin_epoch(self) -> None:
        self._before = self._rng.bit_generator.state
        self._order = self._rng.permutation(self._chosen)

    def _restore(self, details: Mapping[str, Any]) -> None:
        samples, done = details.get("samples"), details.get("done")
        if samples != self._available:
            raise ValueError(f"the state is of {samples} samples, there are {self._available} here")
        if not isinstance(done, int) or not 0 <= done <= self.total:
            raise ValueError(f"the state is at step {done!r} of {self.total}")
        try:
            self._rng.bit_generator.state = details["random"]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError("the state has no random state that can be read") from error
        self.done = done
        if done < self.total and not (self.begins_epoch and done):
            self._begin_epoch()


class BatchFit(ABC):
    """A fit that takes a step for each batch; a subclass says what a step is, and what its state holds.

    Args:
        settings: how to train.
        available: how many samples there are.
        details: of an earlier state; None: from the first step on.
    """

    def __init__(
        self, settings: TrainingConfig, available: int, details: Mapping[str, Any] | None = None
    ) -> None:
        self.settings = settings
        self.losses: list[float] = list(details["losses"]) if details else []
        self._batches = Batches(settings, available, details)

    @property
    def done(self) -> int:
        """Steps taken."""
        return self._batches.done

    @property
    def total(self) -> int:
        """Steps in all."""
        return self._batches.total

    def step(self) -> None:
        """Train on the next batch; `losses` are those of the epoch."""
        if self._batches.begins_epoch:
            self.losses = []
        self.losses.append(self._learn(self._batches.next()))

    def save_state(self) -> FitState:
        """A copy of everything that the steps to come depend on."""
        arrays, details = self._state()
        common = {"config": self.settings.to_mapping(), "losses": list(self.losses), **self._batches.save()}
        return FitState({name: np.array(values) for name, values in arrays.items()}, {**details, **common})

    @abstractmethod
    def _learn(self, batch: npt.NDArray[np.intp]) -> float:
        """Train on the samples with these indices; the loss before it."""

    @abstractmethod
    def _state(self) -> tuple[Parameters, dict[str, Any]]:
        """The arrays and the details that are the subclass's own."""

    @abstractmethod
    def result(self) -> FitResult:
        """What it came to."""


def settings_of(state: FitState) -> TrainingConfig:
    """How the training that was saved is to go on; ValueError if the state does not say."""
    config, losses = state.details.get("config"), state.details.get("losses")
    if not isinstance(config, dict) or not isinstance(losses, list):
        raise ValueError("the state does not say how to train")
    if not all(isinstance(loss, float) for loss in losses):
        raise ValueError("the state's losses are no numbers")
    return TrainingConfig.from_mapping(config)


def named(prefix: str, arrays: Parameters) -> Parameters:
    """The arrays under names that begin with `prefix` and a dot."""
    return {f"{prefix}.{name}": values for name, values in arrays.items()}


def part(prefix: str, arrays: Parameters) -> Parameters:
    """Those of the arrays that `named` has given this prefix, by their own names."""
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}

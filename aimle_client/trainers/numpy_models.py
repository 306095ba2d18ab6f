"""Classifiers that need nothing but NumPy: softmax regression and a multilayer perceptron (ReLU).

Minibatch SGD on the mean cross-entropy; FedProx's term is added to the gradient. Parameters are float32:
`layers.<i>.weight` [inputs, outputs] and `layers.<i>.bias` [outputs], in the order of the layers.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from aimle_client.trainers import metrics
from aimle_client.trainers.base import (
    Array,
    Dataset,
    EvalResult,
    FitResult,
    Parameters,
    TrainingConfig,
    check_finite,
    check_like,
)
from aimle_client.trainers.resumable import BatchFit, FitState, named, part, run, settings_of


class _Perceptron:
    """What the two classifiers share: all but how many hidden layers there are."""

    def __init__(self, train: Dataset, evaluation: Dataset, classes: int, hidden: Sequence[int]) -> None:
        self._train, self._evaluation = _classes_below(classes, train), _classes_below(classes, evaluation)
        self._shapes = _shapes(train.inputs.shape[1], classes, hidden)

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """SGD from `parameters`; metrics: `loss`, the mean over the last epoch. FloatingPointError if it diverges."""
        return run(self.begin(parameters, config))

    def begin(self, parameters: Parameters, config: Mapping[str, Any]) -> "PerceptronFit":
        """As `fit`, step by step."""
        check_like(parameters, self._shapes)
        return PerceptronFit(self._train, parameters, parameters, TrainingConfig.from_mapping(config))

    def load_state(self, state: FitState) -> "PerceptronFit":
        """Go on where the state was saved; ValueError if it is of another model or other samples."""
        settings = settings_of(state)
        local, start = part("local", state.arrays), part("start", state.arrays)
        check_like(local, self._shapes)
        if settings.proximal_mu:
            check_like(start, self._shapes)
        return PerceptronFit(self._train, local, start, settings, state.details)

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """accuracy, loss, precision, recall and f1 on the evaluation data."""
        check_like(parameters, self._shapes)
        labels = self._evaluation.targets
        probabilities = _softmax(_activations(parameters, self._evaluation.inputs)[-1])
        measured = metrics.classification(labels, probabilities.argmax(axis=1))
        return EvalResult(len(labels), {"loss": metrics.cross_entropy(probabilities, labels), **measured})


class PerceptronFit(BatchFit):
    """SGD under way, from `local`; FedProx pulls towards `start`."""

    def __init__(
        self,
        train: Dataset,
        local: Parameters,
        start: Parameters,
        settings: TrainingConfig,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, len(train), details)
        self._train, self._start = train, start
        self._local = {name: values.astype(np.float32) for name, values in local.items()}

    def result(self) -> FitResult:
        """The local model."""
        check_finite(self._local)
        samples = self.settings.num_samples(len(self._train))
        return FitResult(self._local, samples, {"loss": float(np.mean(self.losses))})

    def _learn(self, batch: Array) -> float:
        inputs, targets = self._train.inputs[batch], self._train.targets[batch]
        with np.errstate(over="ignore", invalid="ignore"):
            loss, gradients = loss_and_gradients(self._local, inputs, targets)
            for name, gradient in gradients.items():
                if self.settings.proximal_mu:
                    gradient += self.settings.proximal_mu * (self._local[name] - self._start[name])
                self._local[name] -= np.float32(self.settings.learning_rate) * gradient
        return loss

    def _state(self) -> tuple[Parameters, dict[str, Any]]:
        start = named("start", self._start) if self.settings.proximal_mu else {}
        return named("local", self._local) | start, {}


class SoftmaxRegression(_Perceptron):
    """A trainer of multinomial logistic regression; targets are class indices below `classes`."""

    def __init__(self, train: Dataset, evaluation: Dataset, *, classes: int) -> None:
        super().__init__(train, evaluation, classes, ())

    @staticmethod
    def initial_parameters(features: int, classes: int, *, seed: int = 0) -> Parameters:
        """A first global model, drawn with `seed`."""
        return _initial(_shapes(features, classes, ()), seed)


class MLP(_Perceptron):
    """A trainer of a perceptron with the given hidden layer sizes; targets are class indices below `classes`."""

    def __init__(
        self, train: Dataset, evaluation: Dataset, *, classes: int, hidden: Sequence[int] = (64,)
    ) -> None:
        super().__init__(train, evaluation, classes, hidden)

    @staticmethod
    def initial_parameters(
        features: int, classes: int, *, hidden: Sequence[int] = (64,), seed: int = 0
    ) -> Parameters:
        """A first global model, drawn with `seed`."""
        return _initial(_shapes(features, classes, hidden), seed)


def loss_and_gradients(parameters: Parameters, inputs: Array, labels: Array) -> tuple[float, Parameters]:
    """Mean cross-entropy of a batch ([n, features], [n]) and its derivative by every parameter."""
    activations = _activations(parameters, inputs)
    probabilities = _softmax(activations[-1])
    loss = metrics.cross_entropy(probabilities, labels)
    # The derivative of the loss by the last layer's outputs: probabilities minus the one-hot labels, per sample.
    delta = probabilities
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    gradients: Parameters = {}
    for layer in reversed(range(len(activations) - 1)):
        gradients[f"layers.{layer}.weight"] = activations[layer].T @ delta
        gradients[f"layers.{layer}.bias"] = delta.sum(axis=0)
        delta = (delta @ parameters[f"layers.{layer}.weight"].T) * (activations[layer] > 0)
    return loss, gradients


def _activations(parameters: Parameters, inputs: Array) -> list[Array]:
    """The inputs, each hidden layer's outputs after ReLU, and the last layer's outputs as they are."""
    depth = len(parameters) // 2
    found = [inputs]
    for layer in range(depth):
        outputs = found[-1] @ parameters[f"layers.{layer}.weight"] + parameters[f"layers.{layer}.bias"]
        found.append(outputs if layer == depth - 1 else np.maximum(outputs, 0))
    return found


def _softmax(outputs: Array) -> Array:
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _shapes(features: int, classes: int, hidden: Sequence[int]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise([features, *hidden, classes])):
        shapes |= {f"layers.{layer}.weight": (inputs, outputs), f"layers.{layer}.bias": (outputs,)}
    return shapes


def _initial(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Parameters:
    """Weights drawn as He et al. 2015 propose for ReLU, biases 0."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.standard_normal(shape) * np.sqrt(2 / shape[0]) for name, shape in shapes.items()}
    return {name: (values * (values.ndim > 1)).astype(np.float32) for name, values in drawn.items()}


def _classes_below(classes: int, data: Dataset) -> Dataset:
    """The data as float32 and class indices; ValueError for a target that is no class index."""
    labels = data.targets.astype(np.intp)
    if (labels != data.targets).any() or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"targets must be class indices from 0 to {classes - 1}")
    return Dataset(data.inputs.astype(np.float32), labels)

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


class _Perceptron:
    """What the two classifiers share: all but how many hidden layers there are."""

    def __init__(self, train: Dataset, evaluation: Dataset, classes: int, hidden: Sequence[int]) -> None:
        self._train, self._evaluation = _classes_below(classes, train), _classes_below(classes, evaluation)
        self._shapes = _shapes(train.inputs.shape[1], classes, hidden)

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """SGD from `parameters`; metrics: `loss`, the mean over the last epoch. FloatingPointError if it diverges."""
        check_like(parameters, self._shapes)
        settings = TrainingConfig.from_mapping(config)
        local = {name: values.astype(np.float32) for name, values in parameters.items()}
        loss = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for batches in settings.epochs(len(self._train)):
                loss = float(np.mean([self._step(local, parameters, batch, settings) for batch in batches]))
        check_finite(local)
        return FitResult(local, settings.num_samples(len(self._train)), {"loss": loss})

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """accuracy, loss, precision, recall and f1 on the evaluation data."""
        check_like(parameters, self._shapes)
        labels = self._evaluation.targets
        probabilities = _softmax(_activations(parameters, self._evaluation.inputs)[-1])
        measured = metrics.classification(labels, probabilities.argmax(axis=1))
        return EvalResult(len(labels), {"loss": metrics.cross_entropy(probabilities, labels), **measured})

    def _step(self, local: Parameters, start: Parameters, batch: Array, settings: TrainingConfig) -> float:
        """One step of SGD on `local`, in place; the batch's loss before it."""
        loss, gradients = loss_and_gradients(local, self._train.inputs[batch], self._train.targets[batch])
        for name, gradient in gradients.items():
            if settings.proximal_mu:
                gradient += settings.proximal_mu * (local[name] - start[name])
            local[name] -= np.float32(settings.learning_rate) * gradient
        return loss


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

"""Real data for the trainers' tests: scikit-learn's handwritten digits and diabetes records."""

import numpy as np
from sklearn.datasets import load_diabetes, load_digits

from aimle_client.trainers.base import Dataset, Parameters


def digits() -> tuple[Dataset, Dataset]:
    """1797 images of 8 x 8 pixels in 0..1, ten classes: 1400 to train on, the others held out."""
    return _split(*load_digits(return_X_y=True), scale=16.0, first=1400)


def diabetes() -> tuple[Dataset, Dataset]:
    """442 patients, ten standardised measurements, the disease's progress in standard deviations."""
    inputs, targets = load_diabetes(return_X_y=True)
    return _split(
        inputs / inputs.std(axis=0), (targets - targets.mean()) / targets.std(), scale=1.0, first=350
    )


def least_squares_error() -> float:
    """The held-out mean squared error of the exact linear solution for `diabetes`: what a linear model can do."""
    train, held_out = diabetes()
    solution, *_ = np.linalg.lstsq(np.c_[train.inputs, np.ones(len(train))], train.targets)
    predicted = np.c_[held_out.inputs, np.ones(len(held_out))] @ solution
    return float(np.mean((predicted - held_out.targets) ** 2))


def distance(one: Parameters, other: Parameters) -> float:
    """The Euclidean distance of two models."""
    return float(np.sqrt(sum(np.sum((one[name].astype(float) - other[name]) ** 2) for name in one)))


def same(one: Parameters, other: Parameters) -> bool:
    """Whether two models are equal to the bit."""
    return {n: v.tobytes() for n, v in one.items()} == {n: v.tobytes() for n, v in other.items()}


def _split(inputs: np.ndarray, targets: np.ndarray, scale: float, first: int) -> tuple[Dataset, Dataset]:
    order = np.random.default_rng(0).permutation(len(targets))
    inputs, targets = (inputs / scale).astype(np.float32)[order], targets[order]
    return Dataset(inputs[:first], targets[:first]), Dataset(inputs[first:], targets[first:])

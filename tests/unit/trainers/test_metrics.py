"""Metrics: the same numbers as scikit-learn gives."""

import numpy as np
import pytest
from sklearn import metrics as reference

from aimle_client.trainers.metrics import classification, cross_entropy, regression

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        (RNG.integers(0, 5, 200), RNG.integers(0, 5, 200)),
        (np.array([0, 0, 1]), np.array([0, 7, 7])),
        (np.array([4, 4]), np.array([4, 4])),
        (np.array(["a", "b", "b"]), np.array(["b", "b", "a"])),
    ],
    ids=["random", "class never right", "perfect", "names"],
)
def test_classification_agrees_with_scikit_learn(labels, predicted):
    """accuracy and the macro averages, with 0 where a class has no prediction."""
    found = classification(labels, predicted)
    macro = {"average": "macro", "zero_division": 0}
    assert found == pytest.approx(
        {
            "accuracy": reference.accuracy_score(labels, predicted),
            "precision": reference.precision_score(labels, predicted, **macro),
            "recall": reference.recall_score(labels, predicted, **macro),
            "f1": reference.f1_score(labels, predicted, **macro),
        }
    )
    assert all(type(value) is float for value in found.values())


def test_regression_agrees_with_scikit_learn():
    """mse and mae; the loss is the mse."""
    targets, predicted = RNG.normal(size=50), RNG.normal(size=50)
    mse = reference.mean_squared_error(targets, predicted)
    mae = reference.mean_absolute_error(targets, predicted)
    assert regression(targets, predicted) == pytest.approx({"loss": mse, "mse": mse, "mae": mae})


def test_cross_entropy_agrees_with_scikit_learn_and_stays_finite():
    """The mean log loss; a certain and wrong prediction is bad, not infinite."""
    probabilities = RNG.dirichlet(np.ones(4), size=30)
    labels = RNG.integers(0, 4, 30)
    expected = reference.log_loss(labels, probabilities, labels=range(4))
    assert cross_entropy(probabilities, labels) == pytest.approx(expected)
    assert np.isfinite(cross_entropy(np.array([[1.0, 0.0]]), np.array([1])))

"""What a model is worth, as the numbers that travel in `aimle.metrics`; rates are 0..1, averages are macro."""

import numpy as np
import numpy.typing as npt

from aimle_client.trainers.base import Array


def classification(labels: Array, predicted: Array) -> dict[str, float]:
    """accuracy, precision, recall and f1 of class labels [n] against the true ones [n].

    The last three are the plain mean over the classes that occur in either; a class that is never predicted has
    precision 0, one that never occurs has recall 0.
    """
    classes, joined = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    true, guess = joined[: len(labels)], joined[len(labels) :]
    hits = np.bincount(true[true == guess], minlength=len(classes))
    occurs, claims = (np.bincount(which, minlength=len(classes)) for which in (true, guess))
    return {
        "accuracy": float(np.mean(true == guess)),
        "precision": _macro(hits, claims),
        "recall": _macro(hits, occurs),
        "f1": _macro(2 * hits, occurs + claims),
    }


def regression(targets: Array, predicted: Array) -> dict[str, float]:
    """mse and mae of numbers [n] against the true ones [n]; `loss` is the mse."""
    errors = predicted.astype(np.float64) - targets
    mse = float(np.mean(errors**2))
    return {"loss": mse, "mse": mse, "mae": float(np.mean(np.abs(errors)))}


def cross_entropy(probabilities: Array, columns: npt.NDArray[np.intp]) -> float:
    """Mean of -log of the probability given to the true class: `probabilities` [n, classes], `columns` [n]."""
    given = probabilities[np.arange(len(columns)), columns].astype(np.float64)
    return float(-np.mean(np.log(np.maximum(given, np.finfo(np.float64).tiny))))


def _macro(hits: Array, totals: Array) -> float:
    return float(np.mean(hits / np.maximum(totals, 1)))

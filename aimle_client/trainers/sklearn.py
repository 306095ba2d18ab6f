"""scikit-learn estimators as trainers: SGDClassifier, SGDRegressor, MLPClassifier and MLPRegressor.

They are trained batch by batch with `partial_fit`. FedProx's term is applied after each batch as a proximal
step towards the global model (forward-backward splitting), since scikit-learn's losses cannot be extended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

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

SUPPORTED = (SGDClassifier, SGDRegressor, MLPClassifier, MLPRegressor)

_NO_STEP = TrainingConfig(learning_rate=1e-30)
"""A step of this size changes no parameter; scikit-learn makes its arrays only in a first step."""


class SklearnTrainer:
    """A trainer of a copy of `estimator`; its learning rate and batch size are the training profile's.

    Parameters are the estimator's own arrays, as float32: `coef` and `intercept` of a linear model, `coefs.<i>`
    and `intercepts.<i>` of a perceptron. A classifier needs all `classes` of the training, also those that this
    client has no sample of.

    Raises:
        TypeError: an estimator of another kind.
        ValueError: a classifier without `classes`, a regressor with them, or settings that need the whole data.
    """

    def __init__(
        self, estimator: Any, train: Dataset, evaluation: Dataset, *, classes: Sequence[Any] | None = None
    ) -> None:
        if not isinstance(estimator, SUPPORTED):
            names = ", ".join(kind.__name__ for kind in SUPPORTED)
            raise TypeError(f"estimator: {type(estimator).__name__} is none of {names}")
        if is_classifier(estimator) != (classes is not None):
            raise ValueError("classes: a classifier needs them, a regressor has none")
        if getattr(estimator, "average", False) or getattr(estimator, "early_stopping", False):
            raise ValueError("estimator: averaging and early stopping do not go with partial_fit")
        self._estimator, self._train, self._evaluation = estimator, train, evaluation
        self._classes = None if classes is None else np.unique(np.asarray(classes))

    def initial_parameters(self, seed: int = 0) -> Parameters:
        """A first global model: zeros for a linear model, what scikit-learn draws with `seed` for a perceptron."""
        arrays = _arrays(self._allocated(replace(_NO_STEP, seed=seed)))
        return {
            name: _float32(values) if "." in name else np.zeros(values.shape, np.float32)
            for name, values in arrays.items()
        }

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """SGD from `parameters`; metrics: those of the local model on the data it was trained on."""
        settings = TrainingConfig.from_mapping(config)
        estimator = self._loaded(parameters, settings)
        for batches in settings.epochs(len(self._train)):
            for batch in batches:
                self._partial_fit(estimator, batch)
                _pull(estimator, parameters, settings, len(batch))
        local = {name: _float32(values) for name, values in _arrays(estimator).items()}
        check_finite(local)
        count = settings.num_samples(len(self._train))
        return FitResult(local, count, self._measured(estimator, self._train))

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """A classifier's accuracy, precision, recall, f1 (and loss, if it gives probabilities), or mse and mae."""
        estimator = self._loaded(parameters, _NO_STEP)
        return EvalResult(len(self._evaluation), self._measured(estimator, self._evaluation))

    def _allocated(self, settings: TrainingConfig) -> Any:
        """A copy of the estimator that has its arrays, set to this round's learning rate."""
        estimator = clone(self._estimator).set_params(random_state=settings.seed, shuffle=False)
        _set_learning_rate(estimator, _NO_STEP.learning_rate)
        self._partial_fit(estimator, np.arange(1))
        # A perceptron's optimizer keeps its learning rate and momentum: the next step makes a new one.
        vars(estimator).pop("_optimizer", None)
        return _set_learning_rate(estimator, settings.learning_rate)

    def _loaded(self, parameters: Parameters, settings: TrainingConfig) -> Any:
        """A copy of the estimator that holds `parameters`."""
        estimator = self._allocated(settings)
        arrays = _arrays(estimator)
        check_like(parameters, {name: values.shape for name, values in arrays.items()})
        for name, values in arrays.items():
            values[...] = parameters[name]
        return estimator

    def _partial_fit(self, estimator: Any, batch: Array) -> None:
        if _is_layered(estimator):
            estimator.set_params(batch_size=len(batch))
        known = {} if self._classes is None else {"classes": self._classes}
        estimator.partial_fit(self._train.inputs[batch], self._train.targets[batch], **known)

    def _measured(self, estimator: Any, data: Dataset) -> dict[str, float]:
        predicted = estimator.predict(data.inputs)
        if self._classes is None:
            return metrics.regression(data.targets, predicted)
        found = metrics.classification(data.targets, predicted)
        if hasattr(estimator, "predict_proba"):
            columns = np.searchsorted(self._classes, data.targets)
            found["loss"] = metrics.cross_entropy(estimator.predict_proba(data.inputs), columns)
        return found


def _is_layered(estimator: Any) -> bool:
    return "hidden_layer_sizes" in estimator.get_params()


def _set_learning_rate(estimator: Any, rate: float) -> Any:
    if _is_layered(estimator):
        return estimator.set_params(learning_rate_init=rate)
    return estimator.set_params(learning_rate="constant", eta0=rate)


def _arrays(estimator: Any) -> Parameters:
    """The estimator's own arrays, to read and to write."""
    if not _is_layered(estimator):
        return {"coef": estimator.coef_, "intercept": estimator.intercept_}
    layers = {f"coefs.{i}": values for i, values in enumerate(estimator.coefs_)}
    return layers | {f"intercepts.{i}": values for i, values in enumerate(estimator.intercepts_)}


def _float32(values: Array) -> Array:
    return values.astype(np.float32)


def _pull(estimator: Any, start: Parameters, settings: TrainingConfig, samples: int) -> None:
    """The proximal step of mu/2 |w - start|^2: a linear model made one step per sample, a perceptron one."""
    strength = settings.proximal_mu * settings.learning_rate * (1 if _is_layered(estimator) else samples)
    if strength:
        for name, values in _arrays(estimator).items():
            values[...] = (values + strength * start[name]) / (1 + strength)

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
from aimle_client.trainers.resumable import BatchFit, FitState, named, part, run, settings_of

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
        return run(self.begin(parameters, config))

    def begin(self, parameters: Parameters, config: Mapping[str, Any]) -> "SklearnFit":
        """As `fit`, step by step."""
        settings = TrainingConfig.from_mapping(config)
        return SklearnFit(self, self._loaded(parameters, settings), parameters, settings)

    def load_state(self, state: FitState) -> "SklearnFit":
        """Go on where the state was saved; ValueError if it is of another model or other samples."""
        settings = settings_of(state)
        estimator = self._allocated(settings, forget=False)
        start = part("start", state.arrays)
        _restore(estimator, state)
        if settings.proximal_mu:
            check_like(start, {name: values.shape for name, values in _arrays(estimator).items()})
        return SklearnFit(self, estimator, start, settings, state.details)

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """A classifier's accuracy, precision, recall, f1 (and loss, if it gives probabilities), or mse and mae."""
        estimator = self._loaded(parameters, _NO_STEP)
        return EvalResult(len(self._evaluation), self._measured(estimator, self._evaluation))

    def _allocated(self, settings: TrainingConfig, *, forget: bool = True) -> Any:
        """A copy of the estimator that has its arrays, set to this round's learning rate.

        A perceptron's optimizer keeps its learning rate and momentum: unless it is to be forgotten, in which case the
        next step makes a new one.
        """
        estimator = clone(self._estimator).set_params(random_state=settings.seed, shuffle=False)
        _set_learning_rate(estimator, _NO_STEP.learning_rate)
        self._partial_fit(estimator, np.arange(1))
        if forget:
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

    def train_on(self, estimator: Any, batch: Array) -> None:
        """One batch of this trainer's samples."""
        self._partial_fit(estimator, batch)

    def measured(self, estimator: Any) -> dict[str, float]:
        """The estimator's metrics on the samples that it was trained on."""
        return self._measured(estimator, self._train)

    @property
    def samples(self) -> int:
        """How many samples there are to train on."""
        return len(self._train)

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


class SklearnFit(BatchFit):
    """A trainer's estimator under way; FedProx pulls towards `start`."""

    def __init__(
        self,
        trainer: SklearnTrainer,
        estimator: Any,
        start: Parameters,
        settings: TrainingConfig,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(settings, trainer.samples, details)
        self._trainer, self._estimator, self._start = trainer, estimator, start

    def result(self) -> FitResult:
        """The local model, as float32."""
        local = {name: _float32(values) for name, values in _arrays(self._estimator).items()}
        check_finite(local)
        samples = self.settings.num_samples(self._trainer.samples)
        return FitResult(local, samples, self._trainer.measured(self._estimator))

    def _learn(self, batch: Array) -> float:
        self._trainer.train_on(self._estimator, batch)
        _pull(self._estimator, self._start, self.settings, len(batch))
        return 0.0  # the metrics are measured at the end

    def _state(self) -> tuple[Parameters, dict[str, Any]]:
        start = named("start", self._start) if self.settings.proximal_mu else {}
        arrays = named("local", _arrays(self._estimator)) | named("optimizer", _moments(self._estimator))
        return arrays | start, {"estimator": _counters(self._estimator)}


_COUNTERS = ("t_", "best_loss_", "_no_improvement_count")
"""Attributes of an estimator, and of a perceptron's optimizer, that later steps depend on beside the arrays."""
_OPTIMIZER_COUNTERS = ("t", "learning_rate", "learning_rate_init")
_MOMENTS = ("velocities", "ms", "vs")


def _counters(estimator: Any) -> dict[str, Any]:
    """The numbers that it has; a loss that is still infinite is not one."""
    found: dict[str, Any] = {}
    for name in _COUNTERS:
        if np.isfinite(value := getattr(estimator, name, np.inf)):
            found[name] = float(value)
    if optimizer := getattr(estimator, "_optimizer", None):
        known = vars(optimizer)
        found["optimizer"] = {name: float(known[name]) for name in _OPTIMIZER_COUNTERS if name in known}
    return found


def _moments(estimator: Any) -> Parameters:
    """The arrays of a perceptron's optimizer, to read and to write."""
    known = vars(estimator._optimizer) if hasattr(estimator, "_optimizer") else {}
    return {
        f"{name}.{i}": values for name in _MOMENTS if name in known for i, values in enumerate(known[name])
    }


def _restore(estimator: Any, state: FitState) -> None:
    """Make the estimator, which has its arrays and its optimizer, what it was when the state was saved."""
    counters = dict(state.details.get("estimator", {}))
    if (of_optimizer := counters.pop("optimizer", None)) is None:
        vars(estimator).pop("_optimizer", None)
    for prefix, arrays in (("local", _arrays(estimator)), ("optimizer", _moments(estimator))):
        saved = part(prefix, state.arrays)
        check_like(saved, {name: values.shape for name, values in arrays.items()})
        for name, values in arrays.items():
            values[...] = saved[name]
    for name in _COUNTERS:
        if name in counters:
            setattr(estimator, name, type(getattr(estimator, name))(counters[name]))
    for name in _OPTIMIZER_COUNTERS:
        if of_optimizer and name in of_optimizer:
            kind = type(getattr(estimator._optimizer, name))
            setattr(estimator._optimizer, name, kind(of_optimizer[name]))

"""A local training that stops, travels as a file and goes on elsewhere ends as if nothing had happened."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from aimle_client.trainers.base import Dataset, Parameters, TrainingConfig
from aimle_client.trainers.numpy_models import MLP
from aimle_client.trainers.resumable import Batches, Fit, FitState, is_resumable, run
from aimle_client.trainers.sklearn import SklearnTrainer
from sbi.tensors import InvalidTensors
from tests.support_trainers import diabetes, digits, same

PROFILE = {"localEpochs": 3, "batchSize": 64, "learningRate": 0.05, "seed": 3, "round": 1, "noDataSamp": 300}
PROXIMAL = {**PROFILE, "proximalMu": 0.5}
STEPS = 15

Made = tuple[Any, Parameters]


def numpy_perceptron() -> Made:
    train, held_out = digits()
    return MLP(train, held_out, classes=10), MLP.initial_parameters(64, 10, seed=1)


def of_estimator(estimator: Any, classes: Any, data: Callable[[], tuple[Dataset, Dataset]]) -> Made:
    trainer = SklearnTrainer(estimator, *data(), classes=classes)
    return trainer, trainer.initial_parameters(seed=1)


TRAINERS: Mapping[str, Callable[[], Made]] = {
    "numpy": numpy_perceptron,
    "linear classifier": lambda: of_estimator(SGDClassifier(loss="log_loss"), range(10), digits),
    "linear regressor": lambda: of_estimator(SGDRegressor(), None, diabetes),
    "adam": lambda: of_estimator(MLPClassifier((16,)), range(10), digits),
    "momentum": lambda: of_estimator(
        MLPClassifier((16,), solver="sgd", learning_rate="adaptive", tol=1.0, n_iter_no_change=2),
        range(10),
        digits,
    ),
    "perceptron regressor": lambda: of_estimator(MLPRegressor(hidden_layer_sizes=(8,)), None, diabetes),
}


def moved(fit: Fit, trainer: Any) -> Fit:
    """The fit as it arrives at another device's trainer."""
    content = bytearray(b"".join(map(bytes, fit.save_state().dump({"aimle.training": "t-1"}))))
    state, metadata = FitState.load(content)
    assert metadata["aimle.training"] == "t-1"
    return trainer.load_state(state)


@pytest.mark.parametrize("profile", [PROFILE, PROXIMAL], ids=["plain", "proximal"])
@pytest.mark.parametrize("make", TRAINERS.values(), ids=TRAINERS.keys())
def test_a_moved_training_equals_the_one_that_stayed(
    make: Callable[[], Made], profile: dict[str, Any]
) -> None:
    """Moved before the first step, within an epoch, between two, and before the result: the same bits."""
    here, start = make()
    stayed = here.fit(start, profile)
    for at in (0, 1, 5, 7, STEPS):
        there, _ = make()
        fit = here.begin(start, profile)
        for _ in range(at):
            fit.step()
        fit = moved(fit, there)
        assert (fit.done, fit.total) == (at, STEPS)
        result = run(fit)
        assert same(result.parameters, stayed.parameters), at
        assert (result.num_samples, result.metrics) == (stayed.num_samples, stayed.metrics)


def test_a_training_may_move_after_every_step() -> None:
    """However often it is handed on, nothing is lost."""
    trainer, start = numpy_perceptron()
    fit = trainer.begin(start, PROXIMAL)
    while fit.done < fit.total:
        fit.step()
        fit = moved(fit, trainer)
    assert same(fit.result().parameters, trainer.fit(start, PROXIMAL).parameters)


def test_a_saved_state_stands_still() -> None:
    """Steps after saving change neither the state nor what comes of it."""
    trainer, start = numpy_perceptron()
    fit = trainer.begin(start, PROFILE)
    fit.step()
    state = fit.save_state()
    before = b"".join(map(bytes, state.dump({})))
    fit.step()
    assert b"".join(map(bytes, state.dump({}))) == before


@pytest.mark.parametrize("samples", [10, 64, 65, 300])
def test_batches_are_those_of_the_epochs(samples: int) -> None:
    """Step by step, from any step on, the samples are those that `TrainingConfig.epochs` names."""
    config = TrainingConfig.from_mapping(PROFILE)
    expected = [batch.tolist() for batch in chain.from_iterable(config.epochs(samples))]
    for at in range(len(expected) + 1):
        batches = Batches(config, samples)
        drawn = [batches.next().tolist() for _ in range(at)]
        resumed = Batches(config, samples, batches.save())
        drawn += [resumed.next().tolist() for _ in range(resumed.total - at)]
        assert drawn == expected


def test_a_state_of_other_samples_is_refused() -> None:
    """What is drawn depends on how many samples there are: with another number it would be another training."""
    trainer, start = numpy_perceptron()
    train, held_out = digits()
    fewer = MLP(Dataset(train.inputs[:500], train.targets[:500]), held_out, classes=10)
    with pytest.raises(ValueError, match="the state is of 1400 samples, there are 500 here"):
        moved(trainer.begin(start, PROFILE), fewer)


def test_a_state_of_another_model_is_refused() -> None:
    """The tensor that does not fit is named."""
    trainer, start = numpy_perceptron()
    larger = MLP(*digits(), classes=10, hidden=(32,))
    with pytest.raises(ValueError, match="has shape"):
        moved(trainer.begin(start, PROFILE), larger)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", None),
        ("config", {"batchSize": 0}),
        ("losses", ["much"]),
        ("done", -1),
        ("done", STEPS + 1),
        ("random", {}),
        ("random", {"bit_generator": "PCG64", "state": 1}),
    ],
)
def test_a_damaged_state_is_refused(name: str, value: Any) -> None:
    """A state from elsewhere is checked, whatever is wrong with it: ValueError, and nothing is trained."""
    trainer, start = numpy_perceptron()
    state = trainer.begin(start, PROFILE).save_state()
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        trainer.load_state(FitState(state.arrays, {**state.details, name: value}))


def test_what_is_no_state_is_refused() -> None:
    """Neither bytes that are no tensors nor tensors without the details of a training."""
    with pytest.raises(InvalidTensors):
        FitState.load(bytearray(b"nothing of the kind"))
    plain = b"".join(map(bytes, FitState({"w": np.zeros(2)}).dump({}))).replace(b"aimle.fit", b"aimle.tif")
    with pytest.raises(ValueError, match="not the state of a training"):
        FitState.load(bytearray(plain))


def test_which_trainers_are_resumable() -> None:
    """Whoever has `begin` and `load_state`; the others go on as before."""

    class Plain:
        def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> Any: ...

        def evaluate(self, parameters: Parameters) -> Any: ...

    assert is_resumable(numpy_perceptron()[0])
    assert not is_resumable(Plain())

"""scikit-learn trainers: each kind of estimator learns, starts from what it is given and can be repeated."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from aimle_client.trainers.base import Dataset
from aimle_client.trainers.sklearn import SklearnTrainer
from tests.support_trainers import diabetes, digits, distance, least_squares_error, same

PROFILE = {"localEpochs": 5, "batchSize": 20, "learningRate": 0.05, "seed": 3, "round": 1}

CLASSIFIERS = [SGDClassifier(loss="log_loss"), SGDClassifier(), MLPClassifier((32,), solver="sgd")]
REGRESSORS = [SGDRegressor(), MLPRegressor(hidden_layer_sizes=(16,), solver="sgd")]


def trainer_of(estimator) -> SklearnTrainer:
    if isinstance(estimator, SGDRegressor | MLPRegressor):
        return SklearnTrainer(estimator, *diabetes())
    return SklearnTrainer(estimator, *digits(), classes=range(10))


def profile_of(estimator, **changes) -> dict:
    """Per-sample steps of a linear model need to be smaller than those of a batch."""
    rate = 0.005 if isinstance(estimator, SGDClassifier | SGDRegressor) else 0.05
    return {**PROFILE, "learningRate": rate, **changes}


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
def test_a_classifier_learns_the_digits(estimator):
    """From chance to more than 88 % of held-out digits in one round of five epochs."""
    trainer = trainer_of(estimator)
    start = trainer.initial_parameters()
    result = trainer.fit(start, profile_of(estimator))
    assert trainer.evaluate(start).metrics["accuracy"] < 0.3
    after = trainer.evaluate(result.parameters)
    assert after.metrics["accuracy"] > 0.88
    assert after.metrics.keys() >= {"accuracy", "precision", "recall", "f1"}
    assert ("loss" in after.metrics) == hasattr(estimator, "predict_proba")
    assert (result.num_samples, after.num_samples) == (1400, 397)


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
def test_a_regressor_learns_the_progress_of_diabetes(estimator):
    """One round comes within a tenth of the held-out error of the exact linear solution."""
    trainer = trainer_of(estimator)
    local = trainer.fit(trainer.initial_parameters(), profile_of(estimator)).parameters
    metrics = trainer.evaluate(local).metrics
    assert metrics.keys() == {"loss", "mse", "mae"}
    assert metrics["mse"] < 1.1 * least_squares_error() < 0.8 * diabetes()[1].targets.var()


@pytest.mark.parametrize("estimator", CLASSIFIERS + REGRESSORS, ids=str)
def test_a_round_can_be_repeated(estimator):
    """Same seed and round, same bits; the estimator that was given stays untouched, and so does the model."""
    trainer = trainer_of(estimator)
    start = trainer.initial_parameters(seed=5)
    copy = {name: values.copy() for name, values in start.items()}
    profile = profile_of(estimator, localEpochs=1)
    first = trainer.fit(start, profile).parameters
    assert same(first, trainer.fit(start, profile).parameters)
    assert not same(first, trainer.fit(start, {**profile, "round": 2}).parameters)
    assert same(start, copy)
    assert not hasattr(estimator, "coef_")
    assert not hasattr(estimator, "coefs_")
    assert all(values.dtype == np.float32 for values in first.values())


@pytest.mark.parametrize("estimator", CLASSIFIERS + REGRESSORS, ids=str)
def test_training_starts_from_the_model_it_is_given(estimator):
    """With next to no learning rate the local model is the received one: nothing of the set-up remains."""
    trainer = trainer_of(estimator)
    rng = np.random.default_rng(1)
    start = {n: rng.normal(size=v.shape).astype(np.float32) for n, v in trainer.initial_parameters().items()}
    local = trainer.fit(start, profile_of(estimator, learningRate=1e-12, localEpochs=1)).parameters
    assert distance(local, start) < 1e-4


@pytest.mark.parametrize("estimator", [*CLASSIFIERS, *REGRESSORS, MLPClassifier((8,))], ids=str)
def test_a_larger_proximal_term_stays_closer_to_the_global_model(estimator):
    """FedProx holds for these estimators too: the distance shrinks as proximalMu grows."""
    trainer = trainer_of(estimator)
    start = trainer.initial_parameters()
    distances = [
        distance(trainer.fit(start, profile_of(estimator, proximalMu=mu, localEpochs=1)).parameters, start)
        for mu in (0, 1, 50)
    ]
    assert distances[0] > distances[1] > distances[2]


def test_a_binary_classifier_has_one_row():
    """Two classes need one hyperplane, and classes may be names."""
    train, held_out = digits()
    trainer = SklearnTrainer(
        SGDClassifier(loss="log_loss"),
        Dataset(train.inputs, np.where(train.targets < 5, "low", "high")),
        Dataset(held_out.inputs, np.where(held_out.targets < 5, "low", "high")),
        classes=["low", "high"],
    )
    start = trainer.initial_parameters()
    assert {name: values.shape for name, values in start.items()} == {"coef": (1, 64), "intercept": (1,)}
    local = trainer.fit(start, profile_of(SGDClassifier())).parameters
    assert trainer.evaluate(local).metrics["accuracy"] > 0.8


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
def test_a_client_without_samples_of_a_class_still_fits_the_model(estimator):
    """A device that has seen only two digits trains the same tensors as the others."""
    train, held_out = digits()
    two = train.targets < 2
    trainer = SklearnTrainer(
        estimator, Dataset(train.inputs[two], train.targets[two]), held_out, classes=range(10)
    )
    start = trainer_of(estimator).initial_parameters()
    local = trainer.fit(start, profile_of(estimator)).parameters
    assert {n: v.shape for n, v in local.items()} == {n: v.shape for n, v in start.items()}


def test_no_data_samp_bounds_the_round():
    """noDataSamp samples are trained on and counted."""
    trainer = trainer_of(SGDClassifier())
    start = trainer.initial_parameters()
    assert trainer.fit(start, profile_of(SGDClassifier(), noDataSamp=50)).num_samples == 50


def test_a_model_of_other_shapes_is_refused():
    """The tensor that does not fit is named."""
    trainer = trainer_of(SGDClassifier())
    with pytest.raises(ValueError, match="'coef'"):
        trainer.evaluate({"coef": np.zeros((3, 64), np.float32), "intercept": np.zeros(10, np.float32)})


@pytest.mark.parametrize(
    ("estimator", "classes", "reason"),
    [
        (SGDClassifier(), None, "classes"),
        (SGDRegressor(), [0, 1], "classes"),
        (SGDClassifier(average=True), [0, 1], "averaging"),
        (MLPClassifier(early_stopping=True), [0, 1], "early stopping"),
    ],
)
def test_an_estimator_that_cannot_be_trained_this_way_is_refused(estimator, classes, reason):
    """What partial_fit cannot do is said when the trainer is made."""
    with pytest.raises(ValueError, match=reason):
        SklearnTrainer(estimator, *digits(), classes=classes)


def test_an_estimator_of_another_kind_is_refused():
    """The supported kinds are named."""
    with pytest.raises(TypeError, match="RandomForestClassifier is none of SGDClassifier, SGDRegressor, MLP"):
        SklearnTrainer(RandomForestClassifier(), *digits(), classes=range(10))

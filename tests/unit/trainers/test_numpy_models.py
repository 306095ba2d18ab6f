"""The NumPy trainers: they learn real data, their gradients are right, and the same seed is the same model."""

import threading

import numpy as np
import pytest

from aimle_client.trainers.base import Dataset
from aimle_client.trainers.numpy_models import MLP, SoftmaxRegression, loss_and_gradients
from tests.support_trainers import digits, distance, same

TRAIN, HELD_OUT = digits()
PROFILE = {"localEpochs": 5, "batchSize": 32, "learningRate": 0.1, "seed": 3, "round": 1}


def softmax() -> tuple[SoftmaxRegression, dict[str, np.ndarray]]:
    trainer = SoftmaxRegression(TRAIN, HELD_OUT, classes=10)
    return trainer, SoftmaxRegression.initial_parameters(64, 10)


def perceptron() -> tuple[MLP, dict[str, np.ndarray]]:
    return MLP(TRAIN, HELD_OUT, classes=10, hidden=(32,)), MLP.initial_parameters(64, 10, hidden=(32,))


@pytest.mark.parametrize("make", [softmax, perceptron])
def test_training_learns_the_digits(make):
    """From chance to more than 90 % of held-out digits in one round of five epochs, and a smaller loss."""
    trainer, start = make()
    before = trainer.evaluate(start)
    result = trainer.fit(start, PROFILE)
    after = trainer.evaluate(result.parameters)
    assert before.metrics["accuracy"] < 0.3
    assert after.metrics["accuracy"] > 0.9
    assert after.metrics["loss"] < before.metrics["loss"]
    assert after.metrics.keys() == {"loss", "accuracy", "precision", "recall", "f1"}
    assert (result.num_samples, after.num_samples) == (1400, 397)
    assert 0 < result.metrics["loss"] < before.metrics["loss"]


@pytest.mark.parametrize("make", [softmax, perceptron])
def test_the_same_seed_and_round_give_the_same_bits(make):
    """A round can be repeated exactly; another seed or round trains in another order."""
    trainer, start = make()
    first = trainer.fit(start, PROFILE).parameters
    assert same(first, trainer.fit(start, PROFILE).parameters)
    assert not same(first, trainer.fit(start, {**PROFILE, "seed": 4}).parameters)
    assert not same(first, trainer.fit(start, {**PROFILE, "round": 2}).parameters)


def test_training_keeps_names_shapes_and_float32_and_leaves_its_input_alone():
    """A local model can be averaged with the others; the received one is not changed."""
    trainer, start = perceptron()
    copy = {name: values.copy() for name, values in start.items()}
    local = trainer.fit(start, PROFILE).parameters
    assert {n: (v.shape, v.dtype) for n, v in local.items()} == {
        n: (v.shape, np.float32) for n, v in start.items()
    }
    assert same(start, copy)


@pytest.mark.parametrize("make", [softmax, perceptron])
def test_a_larger_proximal_term_stays_closer_to_the_global_model(make):
    """FedProx: the distance to the received model shrinks as proximalMu grows, and 0 is plain SGD."""
    trainer, start = make()
    distances = [
        distance(trainer.fit(start, {**PROFILE, "proximalMu": mu}).parameters, start) for mu in (0, 0.1, 1, 5)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[3] < distances[0] / 2
    assert same(
        trainer.fit(start, PROFILE).parameters, trainer.fit(start, {**PROFILE, "proximalMu": 0}).parameters
    )


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_the_gradient_is_the_derivative_of_the_loss(hidden):
    """Every parameter's gradient agrees with central differences in float64."""
    rng = np.random.default_rng(1)
    start = MLP.initial_parameters(6, 4, hidden=hidden, seed=2)
    parameters = {name: values + rng.normal(size=values.shape) for name, values in start.items()}
    inputs, labels = rng.normal(size=(9, 6)), rng.integers(0, 4, 9)
    _, gradients = loss_and_gradients(parameters, inputs, labels)
    assert gradients.keys() == parameters.keys()
    for name, values in parameters.items():
        numeric = np.empty_like(values)
        for index in np.ndindex(values.shape):
            kept, losses = values[index], []
            for step in (1e-6, -1e-6):
                values[index] = kept + step
                losses.append(loss_and_gradients(parameters, inputs, labels)[0])
            values[index] = kept
            numeric[index] = (losses[0] - losses[1]) / 2e-6
        np.testing.assert_allclose(gradients[name], numeric, rtol=1e-5, atol=1e-7)


def test_a_step_is_the_gradient_and_the_pull_times_the_learning_rate():
    """With one batch per epoch, step k is -learningRate * (gradient(w) + proximalMu * (w - w_global))."""
    data = Dataset(TRAIN.inputs[:16], TRAIN.targets[:16])
    start = SoftmaxRegression.initial_parameters(64, 10)
    expected = {name: values.astype(float) for name, values in start.items()}
    for _ in range(2):
        _, gradients = loss_and_gradients(expected, data.inputs, data.targets)
        for name, gradient in gradients.items():
            expected[name] -= 0.5 * (gradient + 2.0 * (expected[name] - start[name]))
    profile = {"localEpochs": 2, "batchSize": 16, "learningRate": 0.5, "proximalMu": 2.0}
    local = SoftmaxRegression(data, HELD_OUT, classes=10).fit(start, profile).parameters
    for name, values in expected.items():
        np.testing.assert_allclose(local[name], values, rtol=1e-5, atol=1e-6)


def test_no_data_samp_bounds_the_round():
    """noDataSamp samples are trained on and counted, and never more than there are."""
    trainer, start = softmax()
    bounded = trainer.fit(start, {**PROFILE, "noDataSamp": 100})
    few = Dataset(TRAIN.inputs[:100], TRAIN.targets[:100])
    assert bounded.num_samples == 100
    assert not same(bounded.parameters, trainer.fit(start, PROFILE).parameters)
    assert (
        SoftmaxRegression(few, HELD_OUT, classes=10).fit(start, {**PROFILE, "noDataSamp": 500}).num_samples
        == 100
    )


def test_trainers_in_threads_do_not_disturb_each_other():
    """Eight rounds at once on one trainer give what they give one after another."""
    trainer, start = perceptron()
    profiles = [{**PROFILE, "localEpochs": 1, "round": number} for number in range(8)]
    expected = [trainer.fit(start, profile).parameters for profile in profiles]
    found: dict[int, dict[str, np.ndarray]] = {}

    def train(number: int) -> None:
        found[number] = trainer.fit(start, profiles[number]).parameters

    threads = [threading.Thread(target=train, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[number], expected[number]) for number in range(8))


def test_a_model_of_other_shapes_is_refused():
    """Parameters of a larger hidden layer are named, not multiplied."""
    trainer, _ = perceptron()
    other = MLP.initial_parameters(64, 10, hidden=(16,))
    for use in (lambda: trainer.fit(other, {}), lambda: trainer.evaluate(other)):
        with pytest.raises(ValueError, match=r"layers\.0\.bias"):
            use()


def test_training_that_diverges_is_an_error():
    """A learning rate far too high gives no update instead of one full of NaN."""
    trainer, start = perceptron()
    with pytest.raises(FloatingPointError, match="diverged"):
        trainer.fit(start, {**PROFILE, "learningRate": 1e20})


@pytest.mark.parametrize("target", [-1, 10, 0.5])
def test_targets_are_class_indices(target):
    """A target that is no class of the training is found before any training."""
    with pytest.raises(ValueError, match="from 0 to 9"):
        SoftmaxRegression(Dataset(np.zeros((1, 64)), np.array([target])), HELD_OUT, classes=10)

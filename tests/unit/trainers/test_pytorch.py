"""The PyTorch trainer: a module learns, travels as NumPy arrays with its buffers, and can be repeated."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from aimle_client.trainers.pytorch import TorchTrainer  # noqa: E402
from aimle_client.trainers.resumable import FitState, run  # noqa: E402
from tests.support_trainers import diabetes, digits, distance, least_squares_error, same  # noqa: E402

pytestmark = pytest.mark.torch

PROFILE = {"localEpochs": 5, "batchSize": 32, "learningRate": 0.1, "seed": 3, "round": 1}


def tensors(dataset, dtype):
    return torch.from_numpy(dataset.inputs), torch.from_numpy(dataset.targets).to(dtype)


def classifier(**changes) -> TorchTrainer:
    """A perceptron with batch normalisation and dropout: buffers and random numbers take part."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Linear(64, 32),
            torch.nn.BatchNorm1d(32),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(32, 10),
        )
    train, held_out = (tensors(data, torch.int64) for data in digits())
    return TorchTrainer(module, torch.nn.functional.cross_entropy, train, held_out, **changes)


def test_a_module_learns_the_digits():
    """From chance to more than 90 % of held-out digits in one round of five epochs."""
    trainer = classifier()
    start = trainer.initial_parameters()
    result = trainer.fit(start, PROFILE)
    after = trainer.evaluate(result.parameters)
    assert trainer.evaluate(start).metrics["accuracy"] < 0.3
    assert after.metrics["accuracy"] > 0.9
    assert after.metrics.keys() == {"loss", "accuracy", "precision", "recall", "f1"}
    assert (result.num_samples, after.num_samples) == (1400, 397)
    assert result.metrics["loss"] < trainer.evaluate(start).metrics["loss"]


def test_a_module_learns_a_number():
    """Floating point targets mean regression; one round comes within a tenth of the exact linear solution."""
    train, held_out = (tensors(data, torch.float32) for data in diabetes())
    module = torch.nn.Sequential(torch.nn.Linear(10, 1), torch.nn.Flatten(0))
    trainer = TorchTrainer(module, torch.nn.functional.mse_loss, train, held_out)
    local = trainer.fit(trainer.initial_parameters(), {**PROFILE, "learningRate": 0.02}).parameters
    metrics = trainer.evaluate(local).metrics
    assert metrics["mse"] < 1.1 * least_squares_error()
    assert metrics["loss"] == pytest.approx(metrics["mse"], rel=1e-5)


def test_a_round_can_be_repeated_and_leaves_no_trace():
    """Same seed and round, same bits, dropout included; neither the model nor torch's generator is changed."""
    trainer = classifier()
    start = trainer.initial_parameters()
    copy = {name: values.copy() for name, values in start.items()}
    state = torch.random.get_rng_state()
    first = trainer.fit(start, PROFILE).parameters
    assert same(first, trainer.fit(start, PROFILE).parameters)
    assert not same(first, trainer.fit(start, {**PROFILE, "round": 2}).parameters)
    assert same(start, copy)
    assert same(start, trainer.initial_parameters())
    assert torch.equal(state, torch.random.get_rng_state())


def test_buffers_travel_with_the_parameters():
    """The state dictionary is the model: running statistics and counters keep their names and dtypes."""
    trainer = classifier()
    local = trainer.fit(trainer.initial_parameters(), PROFILE).parameters
    assert local.keys() == trainer.initial_parameters().keys()
    assert local["1.num_batches_tracked"].dtype == np.int64
    assert int(local["1.num_batches_tracked"]) == 5 * 44


def test_a_larger_proximal_term_stays_closer_to_the_global_model():
    """FedProx: what is trained stays closer to the received model as proximalMu grows."""
    trainer = classifier()
    start = trainer.initial_parameters()
    trained = [name for name in start if name.endswith(("weight", "bias"))]

    def moved(mu: float) -> float:
        local = trainer.fit(start, {**PROFILE, "proximalMu": mu}).parameters
        return distance({name: local[name] for name in trained}, start)

    assert moved(0) > moved(0.5) > moved(5)


def test_the_optimizer_is_the_clients_choice():
    """An optimizer of the client's gets the profile's learning rate and is made anew for every round."""
    rates = []

    def adam(parameters, learning_rate):
        rates.append(learning_rate)
        return torch.optim.Adam(parameters, lr=learning_rate)

    trainer = classifier(optimizer=adam)
    start = trainer.initial_parameters()
    profile = {**PROFILE, "learningRate": 0.01}
    assert same(trainer.fit(start, profile).parameters, trainer.fit(start, profile).parameters)
    assert rates == [0.01, 0.01]


def test_no_data_samp_bounds_the_round():
    """noDataSamp samples are trained on and counted."""
    trainer = classifier()
    assert trainer.fit(trainer.initial_parameters(), {**PROFILE, "noDataSamp": 64}).num_samples == 64


def test_a_model_of_other_shapes_is_refused():
    """The tensor that does not fit is named."""
    trainer = classifier()
    with pytest.raises(ValueError, match=r"'0\.weight'"):
        trainer.fit({**trainer.initial_parameters(), "0.weight": np.zeros((1, 64), np.float32)}, PROFILE)


def test_training_that_diverges_is_an_error():
    """A learning rate far too high gives no update instead of one full of NaN."""
    trainer = classifier()
    with pytest.raises(FloatingPointError, match="diverged"):
        trainer.fit(trainer.initial_parameters(), {**PROFILE, "learningRate": 1e38})


def test_samples_and_targets_must_match():
    """A missing target is found when the trainer is made."""
    module, nothing = torch.nn.Linear(2, 2), (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="one of each"):
        TorchTrainer(module, torch.nn.functional.cross_entropy, nothing, nothing)


@pytest.mark.parametrize("mu", [0.0, 0.5])
@pytest.mark.parametrize("at", [0, 1, 44, 60, 220])
def test_a_moved_training_equals_the_one_that_stayed(at, mu):
    """Adam's moments, dropout's random numbers and running statistics travel: the same bits on a CPU."""

    def adam(parameters, learning_rate):
        return torch.optim.Adam(parameters, lr=learning_rate)

    here, there = classifier(optimizer=adam), classifier(optimizer=adam)
    profile = {**PROFILE, "learningRate": 0.01, "proximalMu": mu}
    start = here.initial_parameters()
    fit = here.begin(start, profile)
    for _ in range(at):
        fit.step()
    state, _ = FitState.load(bytearray(b"".join(map(bytes, fit.save_state().dump({})))))
    moved, stayed = run(there.load_state(state)), here.fit(start, profile)
    assert same(moved.parameters, stayed.parameters)
    assert moved.metrics == stayed.metrics

"""The training profile at the client: defaults, limits, and which samples a round goes through."""

import numpy as np
import pytest

from aimle_client.trainers.base import Dataset, TrainingConfig, check_finite, check_like


def test_a_profile_may_leave_everything_out():
    """Every attribute has a default, unknown ones are ignored, and null means absent."""
    assert TrainingConfig.from_mapping({"strategy": "FEDAVG", "seed": None}) == TrainingConfig(
        local_epochs=1, batch_size=32, learning_rate=0.01, proximal_mu=0.0, seed=0, round=0, max_samples=None
    )


def test_a_profile_sets_every_field():
    """Each attribute reaches its field; an integer is a number."""
    profile = {
        "localEpochs": 3,
        "batchSize": 8,
        "learningRate": 1,
        "proximalMu": 0.5,
        "seed": 7,
        "round": 4,
        "noDataSamp": 100,
    }
    assert TrainingConfig.from_mapping(profile) == TrainingConfig(3, 8, 1.0, 0.5, 7, 4, 100)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("localEpochs", 0),
        ("localEpochs", 1.5),
        ("localEpochs", True),
        ("batchSize", 0),
        ("learningRate", 0),
        ("learningRate", "0.1"),
        ("learningRate", float("nan")),
        ("learningRate", float("inf")),
        ("proximalMu", -0.1),
        ("seed", -1),
        ("round", -1),
        ("noDataSamp", 0),
    ],
)
def test_a_wrong_attribute_is_named(attribute, value):
    """The error starts with the attribute as the profile spells it."""
    with pytest.raises(ValueError, match=f"^{attribute}: "):
        TrainingConfig.from_mapping({attribute: value})


def test_every_epoch_goes_through_each_chosen_sample_once():
    """An epoch's batches are a partition of the round's samples, none larger than batchSize."""
    config = TrainingConfig(local_epochs=3, batch_size=8, max_samples=21)
    epochs = [np.concatenate(batches) for batches in config.epochs(50)]
    assert [len(batch) for batch in next(config.epochs(50))] == [8, 8, 5]
    assert len(epochs) == 3
    assert all(len(set(order)) == 21 for order in epochs)
    assert len({frozenset(order.tolist()) for order in epochs}) == 1
    assert epochs[0].tolist() != epochs[1].tolist()


def test_no_more_samples_than_there_are():
    """noDataSamp is an upper bound: a client with fewer samples trains on all of them."""
    config = TrainingConfig(max_samples=100)
    assert config.num_samples(30) == 30
    assert sorted(np.concatenate(next(config.epochs(30))).tolist()) == list(range(30))


def test_seed_and_round_decide_the_samples():
    """The same seed and round draw the same, another seed or round another."""

    def first(**changes: int) -> list[int]:
        return np.concatenate(next(TrainingConfig(**{"seed": 1, "round": 1, **changes}).epochs(40))).tolist()

    assert first() == first()
    assert first() != first(seed=2)
    assert first() != first(round=2)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"w": np.zeros(3)}, r"'w' has shape \(3,\), not \(2,\)"),
        ({}, "'w' is missing"),
        ({"w": np.zeros(2), "x": np.zeros(1)}, "'x' is not in this model"),
    ],
)
def test_parameters_of_another_model_are_refused(parameters, reason):
    """A trainer says which tensor does not fit instead of failing somewhere in a matrix product."""
    with pytest.raises(ValueError, match=reason):
        check_like(parameters, {"w": (2,)})


def test_a_model_that_ran_away_is_named():
    """Divergence is an error at the client, not an update that the server refuses."""
    with pytest.raises(FloatingPointError, match="'w' is not finite"):
        check_finite({"w": np.array([1.0, np.inf])})


@pytest.mark.parametrize("targets", [0, 3])
def test_a_dataset_has_one_target_per_sample(targets):
    """No samples, or a target too many, is found when the data is given."""
    with pytest.raises(ValueError, match="one of each"):
        Dataset(np.zeros((targets and 2, 4)), np.zeros(targets))

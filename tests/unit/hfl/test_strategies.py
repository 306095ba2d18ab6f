"""Strategies: each does what its paper says, and the training profile chooses and sets it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aimle_server.hfl.aggregation import StrategyState, WeightedUpdate, aggregate
from aimle_server.hfl.strategies import STRATEGIES, FedAdam, FedAvg, FedProx, Strategy, strategy_for
from sbi.tensors import InvalidTensors, describe

Model = dict[str, np.ndarray]
WEIGHTS = [3, 1, 6]


def client_models(round_number: int, dtype: type) -> list[Model]:
    rng = np.random.default_rng(round_number)
    return [
        {"w": rng.normal(size=(4, 9)).astype(dtype), "b": rng.normal(size=4).astype(dtype)} for _ in WEIGHTS
    ]


def play(folder: Path, strategy: Strategy, start: Model, rounds: range, before: Path | None) -> Path:
    """Rounds one after another, each from the files that the last one left; the path of the last state."""
    save_file(start, folder / f"global{rounds.start}")
    for number in rounds:
        sent = []
        for index, arrays in enumerate(client_models(number, start["w"].dtype.type)):
            save_file(arrays, folder / f"update{index}")
            sent.append(WeightedUpdate(folder / f"update{index}", WEIGHTS[index]))
        after = folder / f"state{number + 1}"
        aggregate(
            strategy,
            describe(folder / f"global{number}"),
            sent,
            folder / f"global{number + 1}",
            {},
            StrategyState(before, after),
        )
        before = after
    return after


def fedadam_by_the_paper(
    start: Model, rounds: int, eta: float, beta1: float, beta2: float, tau: float
) -> Model:
    """Algorithm 2 of Reddi et al., parameter by parameter in plain Python floats."""
    dtype = start["w"].dtype.type
    x = {name: array.astype(float).ravel().tolist() for name, array in start.items()}
    m = {name: [0.0] * len(values) for name, values in x.items()}
    v = {name: [tau * tau] * len(values) for name, values in x.items()}
    for number in range(rounds):
        clients = client_models(number, dtype)
        for name, values in x.items():
            for i, value in enumerate(values):
                deltas = [float(client[name].ravel()[i]) - value for client in clients]
                delta = sum(n * d for n, d in zip(WEIGHTS, deltas, strict=True)) / sum(WEIGHTS)
                m[name][i] = beta1 * m[name][i] + (1 - beta1) * delta
                v[name][i] = beta2 * v[name][i] + (1 - beta2) * delta * delta
                values[i] = value + eta * m[name][i] / (v[name][i] ** 0.5 + tau)
    return {name: np.array(values).reshape(start[name].shape) for name, values in x.items()}


def start_model(dtype: type) -> Model:
    return {"w": np.full((4, 9), 0.25, dtype), "b": np.zeros(4, dtype)}


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_fedadam_follows_the_paper_over_three_rounds(tmp_path, dtype, rtol):
    """Three rounds, each from the state the last one saved, equal Algorithm 2 computed value by value."""
    parameters = {"beta1": 0.8, "beta2": 0.95, "tau": 1e-2}
    play(tmp_path, FedAdam(learning_rate=0.3, **parameters), start_model(dtype), range(3), None)
    result = load_file(tmp_path / "global3")
    expected = fedadam_by_the_paper(start_model(dtype), 3, 0.3, **parameters)
    for name, values in expected.items():
        assert result[name].dtype == dtype
        np.testing.assert_allclose(result[name], values, rtol=rtol, atol=rtol)


def test_fedadam_continues_from_its_state_after_a_restart(tmp_path):
    """A server that dies after round 2 and goes on from the files ends with the same bytes."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()
    play(tmp_path / "whole", FedAdam(), start_model(np.float32), range(4), None)
    state = play(tmp_path / "halves", FedAdam(), start_model(np.float32), range(2), None)
    middle = load_file(tmp_path / "halves" / "global2")
    play(tmp_path / "halves", FedAdam(), middle, range(2, 4), state)
    for name in ("global4", "state4"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes()


def test_fedadam_that_forgets_ends_elsewhere(tmp_path):
    """What is remembered matters: without it the second round gives another model."""
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    play(tmp_path / "with", FedAdam(), start_model(np.float32), range(2), None)
    play(tmp_path / "without", FedAdam(), load_file(tmp_path / "with" / "global1"), range(1, 2), None)
    assert (tmp_path / "with" / "global2").read_bytes() != (tmp_path / "without" / "global2").read_bytes()


def test_a_state_of_another_model_is_refused(tmp_path):
    """The memory of one training never leaks into another."""
    save_file({"m/w": np.zeros(3, np.float32), "v/w": np.zeros(3, np.float32)}, tmp_path / "foreign")
    with pytest.raises(InvalidTensors, match="another model"):
        play(tmp_path, FedAdam(), start_model(np.float32), range(1), tmp_path / "foreign")


def test_a_strategy_that_remembers_needs_a_place_for_it(tmp_path):
    """Losing the memory silently would change the training: it is an error."""
    save_file(start_model(np.float32), tmp_path / "global")
    sent = [WeightedUpdate(tmp_path / "global", 1)]
    with pytest.raises(ValueError, match="place"):
        aggregate(FedAdam(), describe(tmp_path / "global"), sent, tmp_path / "out", {})
    assert [path.name for path in tmp_path.iterdir()] == ["global"]


def test_fedprox_averages_like_fedavg(tmp_path):
    """FedProx differs at the client only: the server's result is FedAvg's, and no state is kept."""
    for name, strategy in (("avg", FedAvg()), ("prox", FedProx())):
        (tmp_path / name).mkdir()
        play(tmp_path / name, strategy, start_model(np.float32), range(1), None)
        assert not (tmp_path / name / "state1").exists()
    assert (tmp_path / "avg" / "global1").read_bytes() == (tmp_path / "prox" / "global1").read_bytes()


def test_the_profile_chooses_the_strategy_and_sets_it():
    """Every name of the training profile has a strategy, FEDAVG is the default, parameters reach FedAdam."""
    assert {name: type(strategy_for({"strategy": name})) for name in STRATEGIES} == {
        "FEDAVG": FedAvg,
        "FEDPROX": FedProx,
        "FEDADAM": FedAdam,
    }
    assert type(strategy_for({})) is FedAvg
    assert type(strategy_for({"strategy": "FEDAVG", "beta1": 0.5, "localEpochs": 3})) is FedAvg
    profile = {"strategy": "FEDADAM", "serverLearningRate": 0.02, "beta1": 0.5, "beta2": 0.6, "tau": 0.1}
    assert strategy_for(profile) == FedAdam(learning_rate=0.02, beta1=0.5, beta2=0.6, tau=0.1)
    assert strategy_for({"strategy": "FEDADAM"}) == FedAdam(0.1, 0.9, 0.99, 1e-3)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("strategy", "FEDSGD"),
        ("serverLearningRate", 0),
        ("serverLearningRate", float("inf")),
        ("beta1", 1),
        ("beta1", -0.1),
        ("beta2", 1.5),
        ("beta2", float("nan")),
        ("tau", 0),
    ],
)
def test_a_wrong_profile_is_refused_by_the_attributes_name(attribute, value):
    """The error names the attribute as the profile spells it."""
    with pytest.raises(ValueError, match=f"^{attribute}: "):
        strategy_for({"strategy": "FEDADAM", attribute: value})

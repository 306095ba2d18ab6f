"""Aggregation: the weighted mean is exact, memory does not grow, and nothing wrong gets in or out."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aimle_server.hfl.aggregation import StrategyState, WeightedUpdate, aggregate
from aimle_server.hfl.strategies import FedAdam, FedAvg
from sbi.tensors import InvalidTensors, TensorFile, describe

SHAPES = {"conv": (3, 3, 2, 5), "bias": (5,), "scale": (), "none": (0, 7)}


def model(seed: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in SHAPES.items()}


def store(path: Path, arrays: dict[str, np.ndarray]) -> TensorFile:
    save_file({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}, path)
    return describe(path)


def updates(folder: Path, models: list[dict[str, np.ndarray]], weights: list[float]) -> list[WeightedUpdate]:
    for index, arrays in enumerate(models):
        store(folder / f"update{index}", arrays)
    return [WeightedUpdate(folder / f"update{index}", weight) for index, weight in enumerate(weights)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fedavg_is_the_mean_weighted_by_samples(tmp_path, dtype):
    """Each parameter is sum(n_k * w_k) / sum(n_k), correctly rounded to the model's own dtype."""
    models, weights = [model(seed, dtype) for seed in range(1, 5)], [10, 250, 3, 1]
    aggregate(
        FedAvg(),
        store(tmp_path / "global", model(0, dtype)),
        updates(tmp_path, models, weights),
        tmp_path / "out",
        {"aimle.round": "2"},
    )
    result = load_file(tmp_path / "out")
    assert describe(tmp_path / "out").metadata == {"aimle.round": "2"}
    for name in SHAPES:
        stacked = np.stack([arrays[name].astype(np.longdouble) for arrays in models])
        expected = np.average(stacked, axis=0, weights=weights)
        assert (result[name].dtype, result[name].shape) == (dtype, SHAPES[name])
        # Half a unit in the last place of the dtype, and for float64 the sum's own rounding.
        np.testing.assert_allclose(result[name], expected, rtol=np.finfo(dtype).eps, atol=1e-15)


def test_many_clients_do_not_add_up_rounding_errors(tmp_path):
    """300 float32 updates that nearly cancel still give the float64 mean to 1e-6."""
    rng = np.random.default_rng(5)
    models = [{"w": rng.normal(size=64).astype(np.float32)} for _ in range(300)]
    weights = rng.integers(1, 1000, 300).tolist()
    global_model = store(tmp_path / "global", {"w": np.zeros(64, np.float32)})
    aggregate(FedAvg(), global_model, updates(tmp_path, models, weights), tmp_path / "out", {})
    expected = np.array(weights, float) @ np.stack([m["w"] for m in models]).astype(float) / sum(weights)
    np.testing.assert_allclose(load_file(tmp_path / "out")["w"], expected, rtol=1e-6)


def test_one_client_alone_decides_the_model(tmp_path):
    """With a single update, whatever its weight, the mean is that update to the last bit."""
    only = model(1)
    aggregate(
        FedAvg(), store(tmp_path / "g", model(0)), updates(tmp_path, [only], [17]), tmp_path / "out", {}
    )
    result = load_file(tmp_path / "out")
    assert all(result[name].tobytes() == only[name].tobytes() for name in SHAPES)


def test_integer_and_boolean_tensors_stay_the_global_models(tmp_path):
    """A counter or a mask is not averaged: clients may change theirs, the global model keeps its own."""
    kept = {
        "steps": np.array([41], np.int64),
        "mask": np.array([True, False]),
        "ids": np.arange(3, dtype=np.uint8),
    }
    changed = {
        "steps": np.array([99], np.int64),
        "mask": np.array([True, True]),
        "ids": np.zeros(3, np.uint8),
    }
    global_model = store(tmp_path / "global", {"w": np.zeros(2, np.float32), **kept})
    sent = updates(tmp_path, [{"w": np.ones(2, np.float32), **changed}] * 2, [1, 1])
    aggregate(FedAvg(), global_model, sent, tmp_path / "out", {})
    result = load_file(tmp_path / "out")
    assert result["w"].tolist() == [1, 1]
    for name, expected in kept.items():
        np.testing.assert_array_equal(result[name], expected)


@pytest.mark.parametrize("strategy", [FedAvg(), FedAdam()])
def test_the_result_does_not_depend_on_the_chunk_size(tmp_path, strategy):
    """However the model is cut, the same bytes come out, of the model and of what is remembered."""
    global_model = store(tmp_path / "global", model(0))
    sent = updates(tmp_path, [model(seed) for seed in (1, 2, 3)], [1, 2, 4])
    for chunk in (1, 7, 64, 10**6):
        state = StrategyState(after=tmp_path / f"state{chunk}")
        aggregate(strategy, global_model, sent, tmp_path / f"out{chunk}", {}, state, chunk=chunk)
    assert len({path.read_bytes() for path in tmp_path.glob("out*")}) == 1
    assert len({path.read_bytes() for path in tmp_path.glob("state*")}) == (1 if strategy.memory else 0)


def test_updates_may_order_their_tensors_differently(tmp_path):
    """Tensors are matched by name, wherever each client's file has them."""
    places = {"b": [0, 4], "a": [4, 8]}
    header = json.dumps(
        {n: {"dtype": "F32", "shape": [1], "data_offsets": at} for n, at in places.items()}
    ).encode()
    data = np.array([20, 10], np.float32).tobytes()
    (tmp_path / "swapped").write_bytes(len(header).to_bytes(8, "little") + header + data)
    global_model = store(tmp_path / "global", {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)})
    aggregate(FedAvg(), global_model, [WeightedUpdate(tmp_path / "swapped", 1)], tmp_path / "out", {})
    result = load_file(tmp_path / "out")
    assert (result["a"].tolist(), result["b"].tolist()) == ([10], [20])


@pytest.mark.parametrize("strategy", [FedAvg(), FedAdam()])
def test_memory_grows_neither_with_the_model_nor_with_the_clients(tmp_path, strategy):
    """A 64 MB model from 5 clients is aggregated in less than 8 MB."""
    values = np.ones(16 * 2**20, np.float32)
    global_model = store(tmp_path / "global", {"w": values})
    store(tmp_path / "update", {"w": values * 2})
    del values
    sent = [WeightedUpdate(tmp_path / "update", 1)] * 5
    tracemalloc.start()
    try:
        aggregate(strategy, global_model, sent, tmp_path / "out", {}, StrategyState(after=tmp_path / "state"))
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > 64 * 2**20


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_is_a_positive_number(tmp_path, weight):
    """A weight that could erase or invert the mean is refused before anything is written."""
    global_model = store(tmp_path / "global", model(0))
    sent = updates(tmp_path, [model(1), model(2)], [1, weight])
    with pytest.raises(ValueError, match="positive"):
        aggregate(FedAvg(), global_model, sent, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_round_without_updates_has_no_mean(tmp_path):
    """Nobody reported: there is nothing to aggregate, and the caller hears it."""
    with pytest.raises(ValueError, match="no update"):
        aggregate(FedAvg(), store(tmp_path / "global", model(0)), [], tmp_path / "out", {})


def test_an_update_of_another_model_is_refused(tmp_path):
    """One update with another shape stops the aggregation and names the tensor."""
    global_model = store(tmp_path / "global", model(0))
    sent = updates(tmp_path, [model(1), {**model(2), "bias": np.zeros(6, np.float32)}], [1, 1])
    with pytest.raises(InvalidTensors, match="'bias'"):
        aggregate(FedAvg(), global_model, sent, tmp_path / "out", {})


@pytest.mark.parametrize(
    ("strategy", "update"), [(FedAvg(), np.nan), (FedAvg(), np.inf), (FedAdam(), np.nan), (FedAdam(), 1e30)]
)
def test_a_result_that_is_not_finite_is_never_written(tmp_path, strategy, update):
    """A model that no client could use is an error with the tensor's name, and leaves no file behind."""
    global_model = store(tmp_path / "global", {"w": np.zeros(3, np.float32)})
    sent = updates(tmp_path, [{"w": np.array([0, update, 0], np.float32)}], [1])
    before = set(tmp_path.iterdir())
    with pytest.raises(InvalidTensors, match="w' is not finite"):
        aggregate(strategy, global_model, sent, tmp_path / "out", {}, StrategyState(after=tmp_path / "state"))
    assert set(tmp_path.iterdir()) == before

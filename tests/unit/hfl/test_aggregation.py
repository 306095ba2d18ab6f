"""Aggregation: the weighted mean is exact, memory does not grow, and nothing wrong gets in or out."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from aimle_server.hfl.aggregation import StrategyState, WeightedUpdate, aggregate
from aimle_server.hfl.strategies import FedAdam, FedAvg
from sbi.tensors import InvalidTensors, TensorFile, describe
from tests.support_bfloat16 import bfloat16_file, nearest_bfloat16

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


def in_halves(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values.astype(np.float16) for name, values in arrays.items()}


def reduced_updates(folder: Path, dtype: str) -> tuple[list[WeightedUpdate], dict[str, np.ndarray]]:
    """Five clients' updates, whole and differences, plain and reduced, and their mean by plain NumPy in float64."""
    start, whole, delta = model(0), model(1), {"aimle.delta": "true"}
    part = {name: np.asarray(values / 8) for name, values in model(2).items()}
    if dtype == "F16":
        files = {"whole": save(in_halves(whole)), "part": save(in_halves(part), delta)}
        narrow = np.float16
    else:
        files = {"whole": bfloat16_file(whole), "part": bfloat16_file(part, delta)}
        narrow = nearest_bfloat16
    # One tensor reduced, the others not.
    files["some"] = save({**whole, "conv": whole["conv"].astype(np.float16)} if dtype == "F16" else whole)
    files |= {"plain": save(whole, {"aimle.delta": "false"}), "difference": save(part, delta)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    weights = {"plain": 10, "difference": 250, "whole": 3, "part": 1, "some": 40}
    mean = {}
    for name in SHAPES:
        g, w, p = (np.float64(values[name]) for values in (start, whole, part))
        narrow_w, narrow_p = (np.float64(narrow(values[name])) for values in (whole, part))
        some = np.float64(np.float16(w)) if (name, dtype) == ("conv", "F16") else w
        mean[name] = np.average(
            [w, g + p, narrow_w, g + narrow_p, some], axis=0, weights=list(weights.values())
        )
    return [WeightedUpdate(folder / name, weight) for name, weight in weights.items()], mean


@pytest.mark.parametrize("chunk", [7, 2**16])
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_whole_models_and_differences_in_any_dtype_have_one_mean(tmp_path, dtype, chunk):
    """However each client sends what it learned, it counts by its weight, to the last bits of float32."""
    global_model = store(tmp_path / "global", model(0))
    sent, expected = reduced_updates(tmp_path, dtype)
    aggregate(FedAvg(), global_model, sent, tmp_path / "out", {}, reduced=dtype, chunk=chunk)
    result = load_file(tmp_path / "out")
    for name in SHAPES:
        assert result[name].dtype == np.float32
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-6, atol=1e-8)


def test_adam_sees_the_mean_of_differences_as_that_of_models(tmp_path):
    """A strategy gets the same from differences as from the models that they make."""
    start, grown = {"w": np.arange(8, dtype=np.float32)}, {"w": np.arange(8, dtype=np.float32) + 2}
    global_model = store(tmp_path / "global", start)
    save_file({"w": np.full(8, 2, np.float32)}, tmp_path / "difference", {"aimle.delta": "true"})
    save_file(grown, tmp_path / "whole")
    for name in ("difference", "whole"):
        state = StrategyState(after=tmp_path / f"state-{name}")
        sent = [WeightedUpdate(tmp_path / name, 3)]
        aggregate(FedAdam(), global_model, sent, tmp_path / f"out-{name}", {}, state)
    for kind in ("out", "state"):
        ours, other = (load_file(tmp_path / f"{kind}-{name}") for name in ("difference", "whole"))
        assert ours.keys() == other.keys()
        assert all(np.array_equal(ours[name], other[name]) for name in ours)


def test_differences_that_are_zero_leave_the_model_as_it_is(tmp_path):
    """Whatever their weights, to the last bit, also in float64."""
    start = model(0, np.float64)
    global_model = store(tmp_path / "global", start)
    save_file({name: np.zeros_like(a) for name, a in start.items()}, tmp_path / "u", {"aimle.delta": "true"})
    sent = [WeightedUpdate(tmp_path / "u", weight) for weight in (3, 7, 11, 1.7)]
    aggregate(FedAvg(), global_model, sent, tmp_path / "out", {})
    result = load_file(tmp_path / "out")
    assert all(result[name].tobytes() == start[name].tobytes() for name in SHAPES)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_reduced_updates_take_no_more_memory(tmp_path, dtype):
    """A 64 MB model from 5 clients is aggregated in less than 8 MB also from differences in 16 bits."""
    values = np.ones(16 * 2**20, np.float32)
    global_model = store(tmp_path / "global", {"w": values})
    delta = {"aimle.delta": "true"}
    half = save({"w": values.astype(np.float16)}, delta)
    (tmp_path / "update").write_bytes(half if dtype == "F16" else bfloat16_file({"w": values}, delta))
    del values, half
    sent = [WeightedUpdate(tmp_path / "update", 1)] * 5
    tracemalloc.start()
    try:
        aggregate(FedAvg(), global_model, sent, tmp_path / "out", {}, reduced=dtype)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert (load_file(tmp_path / "out")["w"] == 2).all()


def test_a_reduced_update_that_nobody_asked_for_is_refused(tmp_path):
    """Without `reduced` an update has the model's dtypes; and whether it is a difference must be said clearly."""
    global_model = store(tmp_path / "global", model(0))
    store(tmp_path / "half", in_halves(model(1)))
    save_file(model(1), tmp_path / "unclear", {"aimle.delta": "yes"})
    for name, reason in (("half", "'bias' is F16|'conv' is F16"), ("unclear", "neither true nor false")):
        with pytest.raises(InvalidTensors, match=reason):
            aggregate(FedAvg(), global_model, [WeightedUpdate(tmp_path / name, 1)], tmp_path / "out", {})


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

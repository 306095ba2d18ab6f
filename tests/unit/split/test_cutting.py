"""Cutting a model: the parts, one after another, are the model; what crosses is known beforehand."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from aimle_server.split.cutting import CutPoint, CuttableModel, cut, cut_points  # noqa: E402
from aimle_server.split.reading import InvalidOnnx  # noqa: E402
from tests.support_onnx import MODELS, branching, chain, inputs, model, residual, run, weights  # noqa: E402

pytestmark = pytest.mark.split


def one_after_another(parts: list[bytes], arrays: dict) -> dict:
    """The results of the last part."""
    for part in parts:
        arrays = run(part, arrays)
    return arrays


def assert_same(found: dict, expected: dict) -> None:
    """The same tensors, to 1e-5."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cuts", [1, 2, 3])
def test_the_parts_are_the_model(name: str, cuts: int) -> None:
    """Whatever cuts are chosen, the last part's results are those of the whole model."""
    whole = MODELS[name]()
    arrays = inputs(whole)
    expected = run(whole, arrays)
    choices = list(combinations(cut_points(whole), cuts))
    assert choices
    for points in choices:
        parts = cut(whole, points)
        assert len(parts) == cuts + 1
        assert_same(one_after_another(parts, arrays), expected)


@pytest.mark.parametrize("name", MODELS)
def test_as_many_bytes_cross_as_was_said(name: str) -> None:
    """`bytes_per_sample` is what the front really gives, for one sample."""
    whole = MODELS[name]()
    arrays = inputs(whole, samples=5)
    for point in cut_points(whole):
        crossing = run(cut(whole, [point])[0], arrays)
        assert tuple(crossing) == point.tensors
        assert sum(values.nbytes for values in crossing.values()) == 5 * point.bytes_per_sample


def test_a_plain_network_is_cut_between_any_two_nodes() -> None:
    """One tensor crosses each cut of a chain, and its size is that of a layer."""
    assert cut_points(chain()) == [
        CutPoint(1, ("a",), 32),
        CutPoint(2, ("b",), 32),
        CutPoint(3, ("c",), 32),
    ]


def test_what_a_residual_connection_carries_crosses_too() -> None:
    """Beside a connection that jumps over the cut, both tensors cross."""
    crossing = {point.position: point.tensors for point in cut_points(residual())}
    assert crossing[4] == ("stem", "start", "bent")
    assert crossing[8] == ("stem", "pooled")
    assert crossing[11] == ("flat", "early_flat")


def test_constants_stay_and_late_inputs_cross() -> None:
    """A constant is in both parts; an input that only the back reads, and a result that the front has, cross."""
    crossing = [point.tensors for point in cut_points(branching())]
    assert crossing == [("late", "early"), ("late", "early", "a"), ("early", "b")]


def test_bytes_of_inputs_and_results() -> None:
    """What travels to the first node and from the last one, for one sample."""
    whole = CuttableModel(residual())
    assert (whole.input_bytes, whole.output_bytes) == (4 * 64, 4 * 10)


def test_what_a_frame_is() -> None:
    """The inputs of a frame of four samples, for whoever makes some."""
    image = {"name": "image", "dtype": "float32", "shape": [4, 1, 8, 8]}
    assert CuttableModel(residual()).frame(4) == [image]


def test_unknown_sizes_are_no_cuts() -> None:
    """Where the model does not say how large a tensor is, it is not cut."""
    text = """odd (float[N,6] x, int64[2] shape) => (float[N,3] y) {
        a = MatMul(x, w1)
        b = Reshape(a, shape)
        c = Relu(b)
        y = MatMul(c, w2)
    }"""
    found = cut_points(model(text, weights(w1=(6, 8), w2=(8, 3))))
    assert [point.tensors for point in found] == [("shape", "a")]


def test_control_flow_is_not_cut() -> None:
    """A model whose nodes have graphs within runs as a whole: what those read is not in sight."""
    text = """flow (float[N,4] x, bool flag) => (float[N,4] y) {
        a = Relu(x)
        b = Neg(x)
        y = If (flag) <
            then_branch = yes () => (float[N,4] r) { r = Identity(a) },
            else_branch = no () => (float[N,4] s) { s = Identity(b) }
        >
    }"""
    whole = model(text)
    assert cut_points(whole) == []
    [only] = cut(whole, [])
    arrays = {"x": np.ones((2, 4), np.float32), "flag": np.array(True)}
    assert run(whole, arrays)["y"].tolist() == [[1.0] * 4] * 2
    assert only


def test_cuts_out_of_order_are_refused() -> None:
    """Parts follow the graph."""
    first, second, _ = cut_points(chain())
    with pytest.raises(ValueError, match="order"):
        cut(chain(), [second, first])


@pytest.mark.parametrize("content", [b"", b"\x00garbage", chain()[:-20]])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    """Anything but a whole ONNX model is refused, and no words of the parser are passed on."""
    with pytest.raises(InvalidOnnx, match="not a valid ONNX model"):
        cut_points(content)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    """A model cannot have files of the server read."""
    whole = onnx.load_model_from_string(chain())
    tensor = whole.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    path = tmp_path / "model.onnx"
    path.write_bytes(whole.SerializeToString())
    with pytest.raises(InvalidOnnx, match="other files"):
        cut_points(path)

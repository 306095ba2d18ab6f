"""Joining models: what the joined one gives, whole or cut, is what they give one after another."""

from itertools import combinations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from aimle_server.split.cutting import CuttableModel, spread  # noqa: E402
from aimle_server.split.joining import StageModel, join  # noqa: E402
from aimle_server.split.reading import InvalidOnnx  # noqa: E402
from tests.support_onnx import Arrays, back, branching, chain, inputs, model, residual, run, weights  # noqa: E402

pytestmark = pytest.mark.split


def classifier() -> bytes:
    """[N, 10] -> [N, 10], with names that `residual` has too, and another one for the number of samples."""
    text = """classifier (float[samples,10] image) => (float[samples,10] odds) {
        stem = MatMul(image, w1)
        start = Add(stem, b1)
        odds = Softmax(start)
    }"""
    return model(text, weights(w1=(10, 10), b1=(10,)))


def square() -> bytes:
    """[N, 5] -> [N, 5]: it can take what it gives."""
    text = """square (float[N,5] x) => (float[N,5] y) {
        a = MatMul(x, w)
        y = Relu(a)
    }"""
    return model(text, weights(w=(5, 5)))


def difference(one: str, two: str) -> bytes:
    """Of two tensors of four numbers, with these names."""
    return model(
        f"""difference (float[M,4] {one}, float[M,4] {two}) => (float[M,4] result) {{
            a = Sub({one}, {two})
            result = Sigmoid(a)
        }}"""
    )


def joined(*models: bytes) -> CuttableModel:
    """The models, whose stages are called a, b, c."""
    return join([StageModel(name, content) for name, content in zip("abc", models, strict=False)])


def one_after_another(*models: bytes, samples: int = 3) -> tuple[Arrays, Arrays]:
    """Some inputs of the first, and what the last one makes of them; results are taken in their order."""
    arrays = first = inputs(models[0], samples)
    for content in models:
        arrays = run(content, dict(zip(inputs(content), arrays.values(), strict=True)))
    return first, arrays


def assert_same(found: Arrays, expected: Arrays) -> None:
    """The same tensors, to 1e-5."""
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


SEVERAL = {
    "names that both have": [residual(), classifier()],
    "three": [square(), square(), square()],
    "another name for samples": [chain(), back()],
    "two tensors": [branching(), difference("one", "two")],
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("cuts", [0, 1, 2])
def test_joined_and_cut(name: str, cuts: int) -> None:
    """Wherever it is cut, the last part gives what the models give one after another, by the names of the last."""
    models = SEVERAL[name]
    arrays, expected = one_after_another(*models)
    whole = joined(*models)
    assert whole.inputs == tuple(arrays)
    choices = list(combinations(whole.points, cuts))
    assert choices
    for points in choices:
        found = arrays
        for part in whole.parts(points):
            found = run(part, found)
        assert_same(found, expected)


@pytest.mark.parametrize("name", SEVERAL)
def test_joints(name: str) -> None:
    """Where models meet it can be cut: what is in front of the first joint is the first model, and so on."""
    models = SEVERAL[name]
    arrays = inputs(models[0])
    whole = joined(*models)
    assert len(whole.joints) == len(models) - 1
    found = arrays
    for part, content in zip(whole.parts(whole.joints), models, strict=True):
        expected = run(content, dict(zip(inputs(content), found.values(), strict=True)))
        found = run(part, found)
        for mine, theirs in zip(found.values(), expected.values(), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_samples_have_one_name() -> None:
    """However a model calls their number, all cuts of all models are known, and so are the bytes that cross."""
    whole = joined(chain(), back())
    assert len(whole.points) == len(CuttableModel(chain()).points) + 1 + len(CuttableModel(back()).points)
    [joint] = whole.joints
    assert joint.bytes_per_sample == 4 * 3
    assert whole.frame(7) == [{"name": "x", "dtype": "float32", "shape": [7, 6]}]
    assert (whole.input_bytes, whole.output_bytes) == (4 * 6, 4 * 6)


def test_tensors_of_the_same_names() -> None:
    """They belong together in whatever order they are listed; what the next model does not take is left out."""
    arrays = inputs(branching())
    given = run(branching(), arrays)
    turned = difference("y", "early")
    assert_same(run(joined(branching(), turned).part(None, None), arrays), run(turned, given))
    only = model("only (float[N,4] y) => (float[N,4] z) { z = Neg(y) }")
    whole = joined(branching(), only)
    assert_same(run(whole.part(None, None), arrays), {"z": -given["y"]})
    assert [joint.bytes_per_sample for joint in whole.joints] == [4 * 4]


def test_what_passes_through() -> None:
    """An input or a constant that a model gives as it is comes to the next one."""
    first = model(
        """first (float[N,4] x) => (float[N,4] x, float[1,4] c, float[N,4] y) {
            c = Constant<value = float[1,4] {1.0, 2.0, 3.0, 4.0}>()
            y = Neg(x)
        }"""
    )
    second = model(
        """second (float[N,4] x, float[1,4] c, float[N,4] y) => (float[N,4] z) {
            a = Mul(x, c)
            z = Add(a, y)
        }"""
    )
    arrays = inputs(first)
    expected = arrays["x"] * np.array([1, 2, 3, 4], np.float32) - arrays["x"]
    whole = joined(first, second)
    for points in ([], whole.joints):
        found = arrays
        for part in whole.parts(points):
            found = run(part, found)
        assert_same(found, {"z": expected})


def test_a_fixed_number_of_samples() -> None:
    """Where the first model takes a fixed number, that is what the others get."""
    first = model("first (float[2,5] p) => (float[2,5] q) { q = Neg(p) }")
    whole = joined(first, square())
    assert whole.frame(1)[0]["shape"] == [2, 5]
    assert [joint.bytes_per_sample for joint in whole.joints] == [4 * 2 * 5]
    arrays = {"p": inputs(first, samples=2)["p"]}
    assert_same(run(whole.part(None, None), arrays), run(square(), {"x": -arrays["p"]}))


def vague() -> bytes:
    """[N, 5] -> [N, 5], of which nobody can say the latter without running it."""
    text = """vague (float[N,5] x) => (float[N,L] u) {
        all = Constant<value = bool[5] {1, 1, 1, 1, 1}>()
        u = Compress<axis = 1>(x, all)
    }"""
    return model(text)


def test_samples_that_a_model_does_not_count() -> None:
    """Where one does not say how many samples it gives, they are as many as the next one calls its own."""
    text = """picked (float[N,5] x) => (float[picked,5] u) {
        all = Constant<value = bool[3] {1, 1, 1}>()
        u = Compress<axis = 0>(x, all)
    }"""
    whole = joined(model(text), square())
    assert [joint.bytes_per_sample for joint in whole.joints] == [4 * 5]
    arrays, expected = one_after_another(model(text), square())
    assert_same(run(whole.part(None, None), arrays), expected)


def test_lengths_that_one_model_does_not_say() -> None:
    """What is known of a tensor is what both say; a length that has another name is what the other one says it is."""
    assert [joint.bytes_per_sample for joint in joined(vague(), square()).joints] == [4 * 5]
    open_one = model("open_one (float[B,L] x) => (float[B,L] z) { z = Neg(x) }")
    whole = joined(square(), open_one)
    assert (whole.joints[0].bytes_per_sample, whole.output_bytes) == (4 * 5, 4 * 5)


def normed(opset: int) -> bytes:
    """[N, 5] -> [N, 1] with an operator that has become another one: its axes were an attribute before opset 18."""
    axes = "mean = ReduceMean<axes = [1]>(x)" if opset < 18 else "mean = ReduceMean(x, axes)"
    text = f"""normed (float[N,5] x) => (float[N,1] y) {{
        axes = Constant<value = int64[1] {{1}}>()
        {axes}
        y = Relu(mean)
    }}"""
    return model(text, opsets=f'"" : {opset}')


@pytest.mark.parametrize("opsets", [(13, 21), (21, 13), (13, 13)])
def test_different_opsets(opsets: tuple[int, int]) -> None:
    """Models of an earlier opset are brought to the latest one, and give the same."""
    models = square_in(opsets[0]), normed(opsets[1])
    arrays, expected = one_after_another(*models)
    assert_same(run(joined(*models).part(None, None), arrays), expected)


def square_in(opset: int) -> bytes:
    """`square` in another opset."""
    whole = onnx.load_model_from_string(square())
    whole.opset_import[0].version = opset
    return whole.SerializeToString()


def test_functions_of_a_model() -> None:
    """They are written out, so two models may have one of the same name."""
    models = []
    for operator in ("Neg", "Exp"):
        text = f"""<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        with_function (float[N,5] x) => (float[N,5] y) {{
            y = own.change(x)
        }}
        <opset_import: ["" : 21], domain: "own">
        change (a) => (b) {{
            b = {operator}(a)
        }}"""
        models.append(onnx.parser.parse_model(text).SerializeToString())
    arrays = inputs(models[0])
    assert_same(run(joined(*models).part(None, None), arrays), {"y": np.exp(-arrays["x"])})


def test_stored_tensors_that_are_inputs_too() -> None:
    """As files of old versions have them: they are no inputs that somebody gives."""
    old = onnx.load_model_from_string(square())
    old.ir_version = 3
    old.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [5, 5]))
    whole = joined(old.SerializeToString(), old.SerializeToString())
    assert whole.inputs == ("x",)
    arrays, expected = one_after_another(square(), square())
    assert_same(run(whole.part(None, None), arrays), expected)


def test_one_model_is_what_it_is() -> None:
    """Nothing is joined to a single one: it is the file, also with control flow and in whatever opset."""
    assert joined(chain()).sha256 == CuttableModel(chain()).sha256
    assert joined(chain()).joints == ()


def identity(takes: str, gives: str = "float[N,5] y") -> bytes:
    """A model with one input and one result, which nothing is said of but this."""
    names = [value.split()[-1] for value in (takes, gives)]
    return model(f"identity ({takes}) => ({gives}) {{ {names[1]} = Identity({names[0]}) }}")


FLOW = """flow (float[N,5] x) => (float[N,5] y) {
    flag = Constant<value = bool {1}>()
    y = If (flag) <
        then_branch = yes () => (float[N,5] r) { r = Identity(x) },
        else_branch = no () => (float[N,5] s) { s = Neg(x) }
    >
}"""

MISFITS = {
    "another type": (
        identity("double[N,5] q", "double[N,5] y"),
        r"its input q is double\[N, 5\], .* float\[N, 5\]",
    ),
    "another length": (
        identity("float[N,6] q", "float[N,6] y"),
        r"its input q is float\[N, 6\], .* float\[N, 5\]",
    ),
    "more dimensions": (identity("float[N,5,1] q", "float[N,5,1] y"), r"float\[N, 5, 1\], .* float\[N, 5\]"),
    "a fixed number of samples": (
        identity("float[1,5] q", "float[1,5] y"),
        r"float\[1, 5\], .* float\[N, 5\]",
    ),
    "one length for two": (identity("float[N,N] q", "float[N,N] y"), r"float\[N, N\], .* float\[N, 5\]"),
    "too many inputs": (difference("one", "two"), "it has 2 inputs, .* gives 1 tensors"),
    "no input": (
        model("none () => (float[1,5] y) { y = Constant<value = float[1,5] {1.0, 1.0, 1.0, 1.0, 1.0}>() }"),
        "it has 0 inputs",
    ),
    "no model": (b"nothing", "not a valid ONNX model"),
    "control flow": (model(FLOW), "control flow"),
    "a result like an input": (
        identity("float[N,5] y", "float[N,5] x"),
        "x is called like an input of the first",
    ),
    "a result that is an input": (
        model("same (float[N,5] y) => (float[N,5] y, float[N,5] z) { z = Neg(y) }"),
        "result y is its input",
    ),
    "an old opset": (square_in(12), "opset 12 cannot be brought to 21"),
    "an opset of another domain": (
        model("other (float[N,5] x) => (float[N,5] y) { y = own.Thing(x) }", opsets='"" : 21, "own" : 2'),
        "version 2 of own, and a stage before it 1",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_misfits(name: str) -> None:
    """What does not fit is refused, and the stage is named whose model it is."""
    content, reason = MISFITS[name]
    first = onnx.load_model_from_string(square())
    first.opset_import.append(onnx.helper.make_opsetid("own", 1))
    with pytest.raises(InvalidOnnx, match=f"^stage b: .*{reason}"):
        joined(first.SerializeToString(), content)


def test_unknown_sizes_are_no_fit() -> None:
    """Where neither says how large a tensor is between them, nobody knows how long it travels."""
    onward = identity("float[N,M] y", "float[N,M] z")
    with pytest.raises(InvalidOnnx, match="stage b: it is not known how large its input y is"):
        joined(vague(), onward)


def test_where_models_meet_is_always_considered() -> None:
    """Of many cuts as many as are wanted are taken, beside those between models."""
    whole = joined(*[square()] * 3)
    assert spread(whole.points, 0, whole.joints) == list(whole.joints)
    chosen = spread(whole.points, 1, whole.joints)
    assert len(chosen) == 3
    assert chosen == sorted(chosen, key=lambda point: point.position)
    assert set(whole.joints) < set(chosen)

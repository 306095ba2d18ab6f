"""Small ONNX models of the tests, and running one whole: what the parts of it are compared with."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnxruntime
from onnx import numpy_helper

Arrays = dict[str, np.ndarray]

OPSETS = '"" : 21'


def model(text: str, weights: Mapping[str, np.ndarray] | None = None, opsets: str = OPSETS) -> bytes:
    """The model that a graph in ONNX's textual form is, with these weights."""
    parsed = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{opsets}]>\n{text}")
    for name, values in (weights or {}).items():
        parsed.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(parsed)
    return parsed.SerializeToString()


def weights(**shapes: tuple[int, ...]) -> Arrays:
    """Random float32 weights of these shapes, the same each time, that keep what passes through at about its size."""
    rng = np.random.default_rng(7)
    return {
        name: (
            rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:] if len(shape) > 2 else shape[:1]))
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def chain() -> bytes:
    """A plain perceptron of two layers: [N, 6] -> [N, 3]."""
    return model(
        """chain (float[N,6] x) => (float[N,3] y) {
            a = MatMul(x, w1)
            b = Add(a, b1)
            c = Relu(b)
            y = MatMul(c, w2)
        }""",
        weights(w1=(6, 8), b1=(8,), w2=(8, 3)),
    )


def back() -> bytes:
    """[N, 3] -> [N, 6]: what `chain` gives becomes what it takes."""
    text = """back (float[rows,3] given) => (float[rows,6] found) {
        a = MatMul(given, w1)
        found = Tanh(a)
    }"""
    return model(text, weights(w1=(3, 6)))


def residual() -> bytes:
    """A convolutional network [N, 1, 8, 8] -> [N, 10] with a residual connection and one around two layers."""
    return model(
        """residual (float[N,1,8,8] image) => (float[N,10] scores) {
            stem = Conv<pads = [1, 1, 1, 1]>(image, w1, b1)
            start = Relu(stem)
            first = Conv<pads = [1, 1, 1, 1]>(start, w2, b2)
            bent = Relu(first)
            second = Conv<pads = [1, 1, 1, 1]>(bent, w3, b3)
            sum = Add(second, start)
            out = Relu(sum)
            pooled = GlobalAveragePool(out)
            flat = Flatten(pooled)
            early = GlobalAveragePool(stem)
            early_flat = Flatten(early)
            both = Concat<axis = 1>(flat, early_flat)
            scores = Gemm(both, w4, b4)
        }""",
        weights(
            w1=(4, 1, 3, 3), b1=(4,), w2=(4, 4, 3, 3), b2=(4,), w3=(4, 4, 3, 3), b3=(4,), w4=(8, 10), b4=(10,)
        ),
    )


def branching() -> bytes:
    """Two inputs, of which one is read late; a constant that both halves read; two results, one of them early."""
    return model(
        """branching (float[N,4] x, float[N,4] late) => (float[N,4] early, float[N,4] y) {
            half = Constant<value = float {0.5}>()
            early = Mul(x, half)
            a = Sigmoid(early)
            b = Add(a, late)
            y = Mul(b, half)
        }"""
    )


MODELS = {"chain": chain, "residual": residual, "branching": branching}


def run(content: bytes, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """What a model makes of these inputs."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(arrays)), strict=True))


def inputs(content: bytes, samples: int = 3, seed: int = 1) -> Arrays:
    """Random inputs for a model."""
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return {
        value.name: rng.standard_normal([samples, *value.shape[1:]]).astype(np.float32)
        for value in session.get_inputs()
    }

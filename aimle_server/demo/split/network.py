"""A convolutional network for handwritten digits, trained with NumPy alone, and as an ONNX model.

The digits are enlarged to 32 x 32 pixels, so that there is something to send. Each block halves the sides of what it
passes on, and the last ones compute the most: whoever computes the first blocks has less to send on than came in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]

SIDE = 32
CLASSES = 10


@dataclass(frozen=True)
class Block:
    """A convolution, ReLU, and a maximum over 2 x 2 pixels if it pools.

    Attributes:
        channels: that come out.
        kernel: side of the convolution's window; what lies outside the image is 0.
        stride: pixels from one window to the next.
        pools: whether it ends with the maximum.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    pools: bool = True


BLOCKS = (
    Block(8, kernel=5, stride=2),
    Block(16),
    Block(32),
    Block(128, pools=False),
    Block(256, pools=False),
)

LAST_SIDE = SIDE // 16
"""Of what the last block gives: four times, the sides are halved."""


def enlarged(pixels: Array) -> Array:
    """Digits [n, 64] as images [n, 1, 32, 32]."""
    return np.kron(pixels.reshape(-1, 1, 8, 8), np.ones((1, 1, 4, 4), np.float32)).astype(np.float32)


def train(images: Array, labels: npt.NDArray[np.intp], *, epochs: int, seed: int) -> Weights:
    """Adam on the mean cross-entropy, in batches of 32."""
    rng = np.random.default_rng(seed)
    weights = _initial(rng)
    moments = {name: (np.zeros_like(values), np.zeros_like(values)) for name, values in weights.items()}
    step = 0
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 32):
            step += 1
            for name, gradient in _gradients(weights, images[batch], labels[batch]).items():
                first, second = moments[name]
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                rate = 0.002 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                weights[name] -= (rate * first / (np.sqrt(second) + 1e-8)).astype(np.float32)
    return weights


def to_onnx(weights: Weights) -> bytes:
    """The network as an ONNX model: `image` [N, 1, 32, 32] -> `scores` [N, 10]."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, last = [], "image"
    for number, block in enumerate(BLOCKS):
        names = [f"conv{number}", f"relu{number}", f"pool{number}"]
        inputs = [last, f"{number}.weight", f"{number}.bias"]
        pads, strides = [block.kernel // 2] * 4, [block.stride] * 2
        nodes.append(helper.make_node("Conv", inputs, names[:1], pads=pads, strides=strides))
        nodes.append(helper.make_node("Relu", names[:1], names[1:2]))
        if block.pools:
            nodes.append(
                helper.make_node("MaxPool", names[1:2], names[2:], kernel_shape=[2, 2], strides=[2, 2])
            )
        last = names[2] if block.pools else names[1]
    nodes.append(helper.make_node("Flatten", [last], ["features"]))
    nodes.append(helper.make_node("Gemm", ["features", "out.weight", "out.bias"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def _initial(rng: np.random.Generator) -> dict[str, Array]:
    """Weights drawn as He et al. 2015 propose for ReLU, biases 0."""
    shapes, channels = {}, 1
    for number, block in enumerate(BLOCKS):
        shapes[f"{number}.weight"] = (block.channels, channels, block.kernel, block.kernel)
        channels = block.channels
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
        weights[name.replace("weight", "bias")] = np.zeros(shape[0], np.float32)
    features = channels * LAST_SIDE**2
    weights["out.weight"] = (rng.standard_normal((features, CLASSES)) / np.sqrt(features)).astype(np.float32)
    weights["out.bias"] = np.zeros(CLASSES, np.float32)
    return weights


@dataclass
class _Step:
    """What a block keeps for its backward pass; `share` is how much of the maximum each pixel is."""

    shape: tuple[int, ...]
    windows: Array
    rectified: Array
    share: Array | None


def _forward(weights: Weights, images: Array) -> tuple[Array, Array, list[_Step]]:
    """Scores, features, and what each block keeps."""
    values, steps = images, []
    for number, block in enumerate(BLOCKS):
        kernel = weights[f"{number}.weight"]
        windows = _windows(values, block)
        rectified = np.maximum(windows @ kernel.reshape(len(kernel), -1).T + weights[f"{number}.bias"], 0)
        output, share = rectified, None
        if block.pools:
            quads = _quads(rectified)
            output = quads.max(axis=(2, 4))
            is_most = (quads == output[:, :, None, :, None]).astype(np.float32)
            share = is_most / is_most.sum(axis=(2, 4), keepdims=True)
        steps.append(_Step(values.shape, windows, rectified, share))
        values = output.transpose(0, 3, 1, 2)
    features = values.reshape(len(values), -1)
    return features @ weights["out.weight"] + weights["out.bias"], features, steps


def _gradients(weights: Weights, images: Array, labels: npt.NDArray[np.intp]) -> dict[str, Array]:
    outputs, features, steps = _forward(weights, images)
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    delta = exponentials / exponentials.sum(axis=1, keepdims=True)
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    found = {"out.weight": features.T @ delta, "out.bias": delta.sum(axis=0)}
    back = (delta @ weights["out.weight"].T).reshape(len(images), -1, LAST_SIDE, LAST_SIDE)
    for number, (block, step) in reversed(list(enumerate(zip(BLOCKS, steps, strict=True)))):
        back = back.transpose(0, 2, 3, 1)
        if step.share is not None:
            back = (step.share * back[:, :, None, :, None]).reshape(step.rectified.shape)
        back = back * (step.rectified > 0)
        kernel = weights[f"{number}.weight"]
        flat, channels = step.windows.reshape(-1, step.windows.shape[-1]), back.reshape(-1, len(kernel))
        found[f"{number}.weight"] = (channels.T @ flat).reshape(kernel.shape)
        found[f"{number}.bias"] = channels.sum(axis=0)
        if number:
            back = _images(back @ kernel.reshape(len(kernel), -1), step.shape, block)
    return found


def _windows(values: Array, block: Block) -> Array:
    """[n, c, h, w] -> [n, h', w', c * k * k]: what each window of the convolution sees."""
    around = block.kernel // 2
    padded = np.pad(values, ((0, 0), (0, 0), (around, around), (around, around)))
    seen = sliding_window_view(padded, (block.kernel, block.kernel), axis=(2, 3))
    seen = seen[:, :, :: block.stride, :: block.stride].transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(seen).reshape(*seen.shape[:3], -1)


def _images(windows: Array, shape: tuple[int, ...], block: Block) -> Array:
    """The reverse of `_windows`, for gradients: what windows share is added up."""
    count, channels, height, width = shape
    around, stride = block.kernel // 2, block.stride
    padded = np.zeros((count, channels, height + 2 * around, width + 2 * around), np.float32)
    rows, columns = windows.shape[1:3]
    seen = windows.reshape(count, rows, columns, channels, block.kernel, block.kernel)
    for y in range(block.kernel):
        for x in range(block.kernel):
            place = (slice(y, y + rows * stride, stride), slice(x, x + columns * stride, stride))
            padded[:, :, place[0], place[1]] += seen[..., y, x].transpose(0, 3, 1, 2)
    return padded[:, :, around : around + height, around : around + width]


def _quads(values: Array) -> Array:
    """[n, h, w, c] -> [n, h/2, 2, w/2, 2, c]."""
    count, height, width, channels = values.shape
    return values.reshape(count, height // 2, 2, width // 2, 2, channels)

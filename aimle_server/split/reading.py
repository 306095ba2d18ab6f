"""Reading ONNX models. Needs the extra `split`, which is imported only when one is read."""

from collections.abc import Iterator
from typing import Any

from sbi.errors import NotSupported

Onnx = Any
"""An object of the package onnx, whose types are not there without the extra."""


class InvalidOnnx(ValueError):
    """These bytes are not one whole ONNX model, or several make none; the message is fit for whoever sent them."""


def package() -> Onnx:
    """The package onnx.

    Raises:
        NotSupported: the extra `split` is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.inliner
        import onnx.shape_inference
        import onnx.utils
        import onnx.version_converter
    except ModuleNotFoundError as error:
        raise NotSupported("this server cuts no models: it has no onnx (extra `split`)") from error
    return onnx


def read(onnx: Onnx, content: bytes) -> Onnx:
    """The model with the shapes of its tensors.

    It holds all its weights itself: other files that it names would be read from wherever it likes.

    Raises:
        InvalidOnnx: it is none.
    """
    try:
        model = onnx.load_model_from_string(content)
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
            raise InvalidOnnx("its weights are in other files")
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except InvalidOnnx:
        raise
    except Exception as error:  # what protobuf and onnx raise has no common base
        raise InvalidOnnx("not a valid ONNX model") from error


def is_plain(graph: Onnx) -> bool:
    """Whether each node reads only what it names: one with a graph within reads other tensors as well."""
    within = (attribute for node in graph.node for attribute in node.attribute)
    return not graph.sparse_initializer and not any(
        attribute.HasField("g") or attribute.graphs for attribute in within
    )


def inputs_of(graph: Onnx) -> list[Onnx]:
    """What a frame has to have, in order; an input whose values are stored need not be given."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def batch_of(graph: Onnx) -> str:
    """The name of the dimension that counts samples: the first one of the first input; empty if it has none."""
    for value in inputs_of(graph)[:1]:
        dimensions = value.type.tensor_type.shape.dim
        return str(dimensions[0].dim_param) if dimensions else ""
    return ""


def _tensors(graph: Onnx) -> Iterator[Onnx]:
    """Every tensor that is stored in a graph, or in a graph within it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)

"""Whether what one ONNX model gives is what the next one takes: which tensor is which, and how large it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aimle_server.split.reading import InvalidOnnx, Onnx, batch_of, inputs_of, package

Length = int | str
"""Of a dimension: a number, or what it is called; empty: unknown."""


@dataclass(frozen=True)
class Fit:
    """How a graph is put behind others.

    Attributes:
        names: what its inputs are called there.
        lengths: what its names of lengths mean there.
        shapes: of the tensors that it takes, by their names there, as far as both sides say it.
    """

    names: Mapping[str, str]
    lengths: Mapping[str, Length]
    shapes: Mapping[str, Sequence[Length]]


def fit(gives: Mapping[str, Onnx], graph: Onnx, batch: str) -> Fit:
    """How a graph takes these tensors.

    Tensors of the same names belong together where each input has one, else those in the same places. The number of
    samples, of which `batch` is the name, may be called otherwise in the graph.

    Args:
        gives: by the names that they had where they come from.

    Raises:
        InvalidOnnx: it does not take them, or it is not known how large one of them is.
    """
    pairs = _pairs(gives, inputs_of(graph))
    lengths = {
        theirs: ours
        for given, taken in pairs
        for ours, theirs in zip(*_shapes(given, taken), strict=True)
        if isinstance(theirs, str) and theirs and _known(ours, batch)
    }
    if theirs := batch_of(graph):
        lengths.setdefault(theirs, batch)
    shapes = {given.name: _agreed(given, taken, lengths, batch) for given, taken in pairs}
    return Fit({taken.name: given.name for given, taken in pairs}, lengths, shapes)


def _pairs(gives: Mapping[str, Onnx], takes: Sequence[Onnx]) -> list[tuple[Onnx, Onnx]]:
    """What is given, and as what it is taken."""
    if takes and all(value.name in gives for value in takes):
        return [(gives[value.name], value) for value in takes]
    if len(takes) != len(gives):
        counts = f"{len(takes)} inputs, and the stage before it gives {len(gives)}"
        raise InvalidOnnx(f"it has {counts} tensors that are not called like them")
    return list(zip(gives.values(), takes, strict=True))


def _shapes(given: Onnx, taken: Onnx) -> tuple[list[Length], list[Length]]:
    """What each of the two says of the lengths; where one says nothing at all, they are unknown."""
    ours, theirs = _shape(given), _shape(taken)
    length = len(ours or theirs or ())
    unknown: list[Length] = [""] * length
    found = (unknown if ours is None else ours, unknown if theirs is None else theirs)
    if _element(given) != _element(taken) or len(found[0]) != len(found[1]):
        raise _misfit(given, taken)
    if ours is theirs is None:
        raise _unknown(taken)
    return found


def _agreed(given: Onnx, taken: Onnx, lengths: Mapping[str, Length], batch: str) -> list[Length]:
    """The shape of a tensor by what both say of it."""
    agreed = []
    for ours, theirs in zip(*_shapes(given, taken), strict=True):
        meant = lengths.get(theirs, "") if isinstance(theirs, str) else theirs
        both = [length for length in (ours, meant) if _known(length, batch)]
        if not both:
            raise _unknown(taken)
        if both[0] != both[-1]:
            raise _misfit(given, taken)
        agreed.append(both[0])
    return agreed


def _known(length: Length, batch: str) -> bool:
    return isinstance(length, int) or (length != "" and length == batch)


def _shape(value: Onnx) -> list[Length] | None:
    """None: it does not say."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        int(dimension.dim_value) if dimension.HasField("dim_value") else str(dimension.dim_param)
        for dimension in tensor.shape.dim
    ]


def _element(value: Onnx) -> int:
    """The type of its numbers; 0: it is no tensor."""
    return int(value.type.tensor_type.elem_type)


def _misfit(given: Onnx, taken: Onnx) -> InvalidOnnx:
    return InvalidOnnx(
        f"its input {taken.name} is {_text(taken)}, and the stage before it gives {_text(given)}"
    )


def _unknown(taken: Onnx) -> InvalidOnnx:
    return InvalidOnnx(f"it is not known how large its input {taken.name} is")


def _text(value: Onnx) -> str:
    """As `float[N, 8]`."""
    if value.type.WhichOneof("value") != "tensor_type":
        return "no tensor"
    lengths = _shape(value)
    shape = "" if lengths is None else f"[{', '.join(str(length) or '?' for length in lengths)}]"
    return f"{package().TensorProto.DataType.Name(_element(value)).lower()}{shape}"

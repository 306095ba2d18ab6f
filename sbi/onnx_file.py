"""Whether a file is an ONNX model, as far as that can be told without the packages that run one.

An ONNX model is one protobuf message (ModelProto) with a graph in it. Only the fields of the message itself are looked
at, not what they hold; nothing is executed. Whoever cuts or runs the model checks the rest.
"""

from pathlib import Path
from typing import BinaryIO

_IR_VERSION, _GRAPH = 1, 7
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_LENGTHS = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT = 10


class InvalidOnnxFile(ValueError):
    """This is no ONNX model, or not a whole one; the message is fit for whoever sent it."""


def check_onnx(path: Path) -> None:
    """Return if the file is one message with a version and a graph.

    Raises:
        InvalidOnnxFile: it is not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        fields = set()
        while file.tell() < size:
            fields.add(_field(file))
        if file.tell() != size:
            raise InvalidOnnxFile("not a valid ONNX file: it is cut short")
    if not {_IR_VERSION, _GRAPH} <= fields:
        raise InvalidOnnxFile("not a valid ONNX file: it has no graph, or no version")


def _field(file: BinaryIO) -> int:
    """The number of the next field, which is skipped."""
    tag = _varint(file)
    number, kind = tag >> 3, tag & 7
    if kind == _VARINT:
        _varint(file)
    elif kind == _BYTES:
        file.seek(_varint(file), 1)
    elif kind in _LENGTHS:
        file.seek(_LENGTHS[kind], 1)
    else:
        raise InvalidOnnxFile("not a valid ONNX file: it is no protobuf message")
    return number


def _varint(file: BinaryIO) -> int:
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = file.read(1)
        if not byte:
            raise InvalidOnnxFile("not a valid ONNX file: it is cut short")
        value |= (byte[0] & 0x7F) << 7 * place
        if byte[0] < 0x80:
            return value
    raise InvalidOnnxFile("not a valid ONNX file: it is no protobuf message")

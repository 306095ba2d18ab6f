"""ONNX files are told from others by what they are made of, without the packages that run them."""

from pathlib import Path

import pytest

from sbi.onnx_file import InvalidOnnxFile, check_onnx
from tests.support_models import safetensors

VERSION = bytes([0x08, 10])
GRAPH = bytes([0x3A, 3]) + b"\x0a\x01g"
PRODUCER = bytes([0x12, 4]) + b"test"


def check(folder: Path, content: bytes) -> None:
    """As the repository does it."""
    path = folder / "model"
    path.write_bytes(content)
    check_onnx(path)


@pytest.mark.parametrize(
    "content",
    [VERSION + GRAPH, GRAPH + PRODUCER + VERSION, VERSION + bytes([0x3A, 0x80, 0x02]) + bytes(256)],
)
def test_a_model(tmp_path: Path, content: bytes) -> None:
    """One message with a version and a graph, in any order, with whatever else."""
    check(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        VERSION,
        GRAPH,
        VERSION + GRAPH[:-1],
        VERSION + GRAPH + b"\x12",
        VERSION + GRAPH + b"\xff" * 11,
        VERSION + GRAPH + bytes([0x0B]),
        VERSION + GRAPH + bytes([0x11, 1, 2]),
        safetensors(10),
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes) -> None:
    """Nothing, half of one, one that is cut short or goes on with something else, and other kinds of files."""
    with pytest.raises(InvalidOnnxFile, match="not a valid ONNX file"):
        check(tmp_path, content)

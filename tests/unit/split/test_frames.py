"""Frames: what goes in comes out, and what is no frame is told apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimle_client.split.frames import STREAM_BYTES, Frame, FrameError, pack_tensors, unpack_tensors

FRAMES = st.builds(
    Frame,
    st.binary(min_size=STREAM_BYTES, max_size=STREAM_BYTES),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=100),
    st.booleans(),
)


@given(FRAMES)
def test_a_message_is_its_frame(frame: Frame) -> None:
    """Stream, number, payload and whether it failed come out as they went in."""
    assert Frame.unpack(frame.pack()) == frame


def test_how_a_message_looks() -> None:
    """As the documentation says: 16 bytes, 8 bytes, one byte, the payload."""
    message = Frame(bytes(range(16)), 258, b"payload", failed=True).pack()
    assert message == bytes(range(16)) + b"\0\0\0\0\0\0\x01\x02" + b"\x01" + b"payload"


@given(st.binary(max_size=STREAM_BYTES + 8))
def test_what_is_too_short(message: bytes) -> None:
    """Less than a head is no frame."""
    with pytest.raises(FrameError):
        Frame.unpack(message)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool"]
)
def test_tensors_come_out_as_they_went_in(dtype: str) -> None:
    """Of each type that travels, of any shape, also those that are not in one piece in memory."""
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    tensors = {"whole": values, "turned": values.T, "none": values[:0], "one": values[0, 0, 0]}
    found = unpack_tensors(pack_tensors(tensors))
    assert found.keys() == tensors.keys()
    for name, expected in tensors.items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype


@given(st.binary(max_size=60))
def test_what_are_no_tensors(payload: bytes) -> None:
    """Bytes that are no safetensors file are refused, and nothing else happens."""
    with pytest.raises(FrameError):
        unpack_tensors(payload)

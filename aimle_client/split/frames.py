"""What travels between nodes: one frame of tensors, one or more samples in each, with its stream and sequence number.

    16 bytes  stream: whose inputs these are, chosen by who sends them
     8 bytes  sequence number within the stream, big-endian
     1 byte   0: tensors; 1: the frame failed, and the rest is the reason in UTF-8
              the tensors as a safetensors file

Each node answers a frame with one of the same stream and number, so that the tail's results find their inputs.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

Arrays = Mapping[str, npt.NDArray[Any]]
"""Tensors by name."""

MAX_MESSAGE = 64 * 2**20
"""Bytes of the largest frame that is taken."""

STREAM_BYTES = 16

_HEAD = struct.Struct(f">{STREAM_BYTES}sQ?")

MAX_PAYLOAD = MAX_MESSAGE - _HEAD.size


class FrameError(ValueError):
    """These bytes are not a frame, or not one of tensors; the message is fit for anybody."""


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes:
        stream: `STREAM_BYTES` bytes.
        sequence: from 0.
        payload: tensors as a safetensors file, or the reason of a failure.
        failed: which of the two it is.
    """

    stream: bytes
    sequence: int
    payload: bytes
    failed: bool = False

    def pack(self) -> bytes:
        """The message."""
        return _HEAD.pack(self.stream, self.sequence, self.failed) + self.payload

    @classmethod
    def unpack(cls, message: bytes) -> "Frame":
        """The frame that a message is; FrameError if it is none."""
        if len(message) < _HEAD.size:
            raise FrameError("shorter than the head of a frame")
        stream, sequence, failed = _HEAD.unpack_from(message)
        return cls(stream, sequence, message[_HEAD.size :], failed)

    def answer(self, payload: bytes, *, failed: bool = False) -> "Frame":
        """What a node makes of this frame."""
        return Frame(self.stream, self.sequence, payload, failed)


def pack_tensors(arrays: Arrays) -> bytes:
    """The tensors as a safetensors file."""
    return save({name: np.ascontiguousarray(values) for name, values in arrays.items()})


def unpack_tensors(payload: bytes) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file; FrameError if it is none."""
    try:
        return load(payload)
    except (SafetensorError, KeyError, ValueError) as error:
        raise FrameError("the payload is not a safetensors file") from error

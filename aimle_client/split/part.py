"""A part of a model on this node: an ONNX model that onnxruntime runs. Needs the extra `split`."""

import math
import os
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from aimle_client.split.emulation import REAL, Emulation
from aimle_client.split.frames import MAX_PAYLOAD, Arrays, FrameError, pack_tensors, unpack_tensors

_LEAST_RUNS, _MOST_RUNS, _ENOUGH_SECONDS = 3, 50, 0.1
_WARMING = 1
"""Runs before those that are timed: the first one makes room and chooses kernels."""

_NOWHERE = "/nonexistent/aimle"

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class InvalidPart(ValueError):
    """These bytes are no ONNX model that runs here; the message is fit for whoever sent them."""


@dataclass(frozen=True)
class Ran:
    """What a run gave.

    Attributes:
        payload: the results, as a frame's payload.
        samples: how many there were in the inputs, by the first length of the first of them.
        seconds: how long it took.
    """

    payload: bytes
    samples: int
    seconds: float


class Part:
    """One part, loaded.

    Args:
        content: an ONNX model.
        threads: how many threads compute it.
        emulation: how slow it acts.

    Raises:
        InvalidPart: it cannot be run.
    """

    def __init__(self, content: bytes, *, threads: int = 1, emulation: Emulation = REAL) -> None:
        self._session = _session(content, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._emulation = emulation

    def run(self, payload: bytes) -> Ran:
        """The results of the inputs in a frame's payload.

        Raises:
            FrameError: these are not inputs of this part.
        """
        began, computed = time.perf_counter(), time.thread_time()
        inputs = unpack_tensors(payload)
        try:
            found = self._session.run(self._outputs, inputs)
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise FrameError(f"these are not inputs of this part: {_first_line(error)}") from error
        results = pack_tensors(dict(zip(self._outputs, found, strict=True)))
        if len(results) > MAX_PAYLOAD:
            raise FrameError(f"the results have more than {MAX_PAYLOAD} bytes")
        if self._emulation.slowdown > 1:
            # Not of the time on the clock: what else this machine does meanwhile would be as much slower.
            time.sleep((self._emulation.slowdown - 1) * (time.thread_time() - computed))
        return Ran(results, _samples(inputs), time.perf_counter() - began)

    def measure(self, batch: int) -> tuple[float, int]:
        """Seconds that a frame of so many samples takes, the median, and of how many runs.

        Raises:
            InvalidPart: it cannot be run with inputs that are as it says.
        """
        payload = pack_tensors(self._example(batch))
        times: list[float] = []
        try:
            for _ in range(_WARMING):
                self.run(payload)
            while len(times) < _LEAST_RUNS or (sum(times) < _ENOUGH_SECONDS and len(times) < _MOST_RUNS):
                times.append(self.run(payload).seconds)
        except FrameError as error:
            raise InvalidPart(str(error)) from error
        return median(times), len(times)

    def _example(self, batch: int) -> dict[str, Any]:
        """Inputs of the declared shapes, with `batch` where a length is open; zeros where they may be indices."""
        rng = np.random.default_rng(0)
        example = {}
        for value in self._session.get_inputs():
            if value.type not in _DTYPES:
                raise InvalidPart(f"inputs of type {value.type} do not travel between nodes")
            shape = [length if isinstance(length, int) else batch for length in value.shape]
            dtype = np.dtype(_DTYPES[value.type])
            if math.prod(shape) * dtype.itemsize > MAX_PAYLOAD:
                raise InvalidPart(f"{batch} samples are more than a frame holds")
            values = rng.standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)
            example[value.name] = values.astype(dtype)
        return example


def _samples(inputs: Arrays) -> int:
    shape = next((values.shape for values in inputs.values()), ())
    return shape[0] if shape else 1


def _onnxruntime() -> Any:
    """The package, which would tell its makers of each model unless it is told not to before it is imported."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InvalidPart("this node has no onnxruntime (extra `split`)") from error
    return onnxruntime


def _session(content: bytes, threads: int) -> Any:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # A thread that spins while it waits takes the time of whatever else runs on the device.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights in other files would be read from wherever the node was started; there are none where these are sought.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidPart("not an ONNX model that runs here") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]

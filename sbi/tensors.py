"""Model files in safetensors, read and written on disk in pieces that do not grow with the model.

A safetensors file is 8 bytes of little-endian header length, a JSON header (per tensor its dtype, shape and
byte range; `__metadata__` for strings) and the tensors' bytes. The safetensors library decides what is valid;
this module adds the byte offsets, the comparison of a client's update with the global model, and a writer
that never holds a second copy. Floating point tensors (F16, F32, F64) are what federated learning averages;
integer and boolean tensors (counters, vocabularies) travel with the model and are never averaged.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from sbi import bfloat16
from sbi.digests import Buffer

Array = npt.NDArray[Any]

MAX_HEADER = 4 * 2**20
"""Bytes of JSON header that are read at most: some ten thousands of tensors."""

FLOATS: Mapping[str, np.dtype[Any]] = {f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)}
"""The dtypes that are averaged; NumPy has no BF16 or F8, so a model in those is refused with its name."""

REDUCED: Mapping[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""The dtypes that an update may have instead of wider floats, where its training asked for one; BF16 as its bits."""

INTEGERS: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"{kind}{8 * size}": np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
}
"""The dtypes that are carried along unchanged."""

DTYPES: Mapping[str, np.dtype[Any]] = {**FLOATS, **INTEGERS}

STORED: Mapping[str, np.dtype[Any]] = {**DTYPES, **REDUCED}
"""As what a tensor's bytes are read and written."""

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""What a file will hold: tensor name -> (dtype as safetensors names it, shape)."""

_CHUNK = 2**20


class InvalidTensors(ValueError):
    """The file is not a valid model file, or not one for this model; the message says why."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its dtype as safetensors names it, its shape, and where its bytes are in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """A valid safetensors file: its string metadata and its tensors in the order of their bytes."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorSpec]


def describe(path: Path) -> TensorFile:
    """What the file at `path` holds, without reading its tensors.

    InvalidTensors for a file that is cut short, has bytes that belong to no tensor, or is not safetensors.
    """
    header, data_start = _header(path)
    metadata = header.pop("__metadata__", None) or {}
    specs = {name: _spec(entry, data_start) for name, entry in header.items()}
    in_order = sorted(specs.items(), key=lambda item: (item[1].start, item[1].stop, item[0]))
    return TensorFile(path, metadata, dict(in_order))


def check_update(update: TensorFile, reference: TensorFile, reduced: str | None = None) -> None:
    """InvalidTensors unless `update` has exactly the tensors of `reference`: names, dtypes and shapes.

    Tensors of wider floats may have the dtype `reduced` instead, where one is given. The order in the file is free.
    A dtype that this server can neither average nor carry is refused too.
    """
    for name, expected in reference.tensors.items():
        spec = update.tensors.get(name)
        if spec is None:
            raise InvalidTensors(f"tensor {name!r} is missing")
        as_reduced = spec.dtype == reduced and _is_reducible(expected.dtype)
        if spec.shape != expected.shape or not (spec.dtype == expected.dtype or as_reduced):
            raise InvalidTensors(
                f"tensor {name!r} is {_shown(spec)}, the global model's is {_shown(expected)}"
            )
        numpy_dtype(name, expected)
    extra = [name for name in update.tensors if name not in reference.tensors]
    if extra:
        raise InvalidTensors(f"tensor {extra[0]!r} is not in the global model")


def check_finite(update: TensorFile) -> None:
    """InvalidTensors naming the first float tensor that has a NaN or an infinity; reads 1 MiB at a time."""
    raw = np.empty(_CHUNK, np.uint8)
    for name, spec in update.tensors.items():
        if spec.dtype not in FLOATS and spec.dtype != "BF16":
            numpy_dtype(name, spec)
            continue
        for start in range(spec.start, spec.stop, _CHUNK):
            chunk = raw[: min(_CHUNK, spec.stop - start)]
            read_into(update.path, start, chunk)
            if not _all_finite(chunk, spec.dtype):
                raise InvalidTensors(f"tensor {name!r} has values that are not finite")


def numpy_dtype(name: str, spec: TensorSpec) -> np.dtype[Any]:
    """The little-endian NumPy dtype of tensor `name`; InvalidTensors if NumPy has none."""
    try:
        return DTYPES[spec.dtype]
    except KeyError:
        raise InvalidTensors(f"tensor {name!r}: dtype {spec.dtype} is not supported") from None


def read_into(path: Path, offset: int, buffer: Array) -> None:
    """Fill the contiguous `buffer` with the file's bytes from `offset`; InvalidTensors if the file ends.

    Opens and closes the file, so that a thousand updates need one file descriptor; that costs microseconds.
    """
    view = buffer.view(np.uint8).data
    fd = os.open(path, os.O_RDONLY)
    try:
        while view:
            count = os.preadv(fd, [view], offset)
            if count == 0:
                raise InvalidTensors("the file became shorter while it was read")
            view, offset = view[count:], offset + count
    finally:
        os.close(fd)


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The whole model, tensor name -> array in the file's dtype and shape, and the metadata.

    InvalidTensors as `describe`, and for a dtype that NumPy does not have.
    """
    file = describe(path)
    for name, spec in file.tensors.items():
        numpy_dtype(name, spec)
    with safe_open(path, framework="numpy") as handle:
        return {name: handle.get_tensor(name) for name in file.tensors}, dict(file.metadata)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a whole model; `path` appears when it is complete. A contiguous array is not copied."""
    with TensorWriter(path, _layout(arrays), metadata) as writer:
        for name, array in arrays.items():
            writer.put(name, 0, array)


def load(content: bytearray) -> tuple[dict[str, Array], dict[str, str]]:
    """A model file that is in memory: as `read`, but the arrays are views of its bytes."""
    start = 8 + _header_length(content[:8])
    with NamedTemporaryFile() as file:  # the library reads files only, but of them no more than the header
        file.write(content[:start])
        file.truncate(len(content))
        file.flush()
        header = _accepted(Path(file.name), content[8:start])
    metadata = header.pop("__metadata__", None) or {}
    specs = {name: _spec(entry, start) for name, entry in header.items()}
    arrays = {
        name: np.frombuffer(content, numpy_dtype(name, spec), spec.size, spec.start).reshape(spec.shape)
        for name, spec in specs.items()
    }
    return arrays, metadata


def dump(
    arrays: Mapping[str, Array], metadata: Mapping[str, str], dtypes: Mapping[str, str] | None = None
) -> list[Buffer]:
    """The buffers that a whole model's file consists of, in their order; a contiguous array is not copied.

    `dtypes` names, as safetensors does, those that the arrays themselves do not say: BF16, whose bits are uint16.
    """
    specs, header = _place(_layout(arrays, dtypes or {}), metadata)
    in_order = sorted(specs, key=lambda name: (specs[name].start, specs[name].stop))
    return [header, *(_bytes_of(arrays[name], STORED[specs[name].dtype]) for name in in_order)]


class TensorWriter:
    """Writes a file of a known layout piece by piece: `with TensorWriter(...) as writer: writer.put(...)`.

    The pieces may come in any order. The file appears at `path` when the block ends and every byte is there;
    when the block raises, nothing is left. Until then it is at `unfinished(path)`, and `reached` is told how many
    of its bytes are there from the first on, as long as the pieces come in the order of the file.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        metadata: Mapping[str, str],
        reached: Callable[[int], None] | None = None,
    ) -> None:
        self._path = path
        self._partial = unfinished(path)
        self._specs, header = _place(layout, metadata)
        self._missing = sum(spec.stop - spec.start for spec in self._specs.values())
        self._reached = reached
        self._file = self._partial.open("wb")
        self._file.write(header)
        self._complete = len(header)

    def put(self, name: str, first: int, values: Array) -> None:
        """Write `values` as the elements of tensor `name` from flat index `first`, cast to its dtype."""
        spec = self._specs[name]
        content = _bytes_of(values, STORED[spec.dtype])
        start = spec.start + first * STORED[spec.dtype].itemsize
        if start + len(content) > spec.stop:
            raise ValueError(f"{values.size} values from {first} do not fit into tensor {name!r}")
        self._file.seek(start)
        self._file.write(content)
        self._missing -= len(content)
        if start == self._complete:
            self._complete += len(content)
            if self._reached is not None:
                self._file.flush()
                self._reached(self._complete)

    def __enter__(self) -> "TensorWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:  # closing it writes what is left, for which the disk may have no room
                if kind is None and self._missing:
                    raise ValueError(f"{self._missing} bytes of the tensors were not written")
            if kind is None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


def _is_reducible(dtype: str) -> bool:
    """Whether tensors of this dtype are wider than those of `REDUCED`."""
    return dtype in FLOATS and FLOATS[dtype].itemsize > 2


def _all_finite(chunk: Array, dtype: str) -> bool:
    values = chunk.view(STORED[dtype])
    return bfloat16.all_finite(values) if dtype == "BF16" else bool(np.isfinite(values).all())


def unfinished(path: Path) -> Path:
    """Where a file that is still being written is."""
    return path.with_name(f"{path.name}.part")


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The parsed JSON header of a file that the library accepts, and where the tensors' bytes start."""
    with path.open("rb") as file:
        length = _header_length(file.read(8))
        text = file.read(length)
    return _accepted(path, text), 8 + length


def _header_length(prefix: bytes | bytearray) -> int:
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8:
        raise InvalidTensors("the file is shorter than a safetensors header")
    if length > MAX_HEADER:
        raise InvalidTensors(f"the header says {length} bytes, at most {MAX_HEADER} are read")
    return length


def _accepted(path: Path, text: bytes | bytearray) -> dict[str, Any]:
    """The header `text` of a file, parsed, if the library accepts the file."""
    try:
        with safe_open(path, framework="numpy"):
            parsed: dict[str, Any] = json.loads(text, object_pairs_hook=_unique)
            return parsed
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InvalidTensors(f"not a valid safetensors file: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names differ: parsers disagree on which of two equal names counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidTensors("the header names a tensor or an attribute twice")
    return found


def _spec(entry: Mapping[str, Any], data_start: int) -> TensorSpec:
    start, stop = entry["data_offsets"]
    return TensorSpec(entry["dtype"], tuple(entry["shape"]), data_start + start, data_start + stop)


def _shown(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"


def _layout(arrays: Mapping[str, Array], dtypes: Mapping[str, str] = MappingProxyType({})) -> Layout:
    return {
        name: (dtypes[name], array.shape) if name in dtypes else _entry(name, array)
        for name, array in arrays.items()
    }


def _entry(name: str, array: Array) -> tuple[str, tuple[int, ...]]:
    for dtype, candidate in DTYPES.items():
        if candidate == array.dtype.newbyteorder("<"):
            return dtype, array.shape
    raise InvalidTensors(f"tensor {name!r}: dtype {array.dtype} has no place in a model file")


def _bytes_of(values: Array, dtype: np.dtype[Any]) -> memoryview:
    """The bytes of an array as they are in a file, cast to `dtype`; copied only if they are not so already."""
    return np.ascontiguousarray(values, dtype=dtype).reshape(-1).view(np.uint8).data


def _place(layout: Layout, metadata: Mapping[str, str]) -> tuple[dict[str, TensorSpec], bytes]:
    """Where each tensor goes, and the file's bytes before the first of them."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    for name, (dtype, shape), start, stop in _ranges(layout):
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise InvalidTensors(f"the header needs {len(text)} bytes, at most {MAX_HEADER} are read")
    specs = {name: _spec(header[name], 8 + len(text)) for name in layout}
    return specs, len(text).to_bytes(8, "little") + text


def _ranges(layout: Layout) -> Iterator[tuple[str, tuple[str, tuple[int, ...]], int, int]]:
    """The library's own order, widest dtype first and then by name, which keeps every tensor aligned."""
    position = 0
    for name in sorted(layout, key=lambda name: (-STORED[layout[name][0]].itemsize, name)):
        dtype, shape = layout[name]
        stop = position + math.prod(shape) * STORED[dtype].itemsize
        yield name, layout[name], position, stop
        position = stop

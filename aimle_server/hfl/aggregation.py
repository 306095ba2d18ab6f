"""The updates of a round become the next global model, in memory that neither their size nor number changes.

The model is walked tensor by tensor in runs of `CHUNK` values. For each run every client's values are read
into one reused buffer and added up in float64, and for those that are differences their share of the global
values; the strategy combines the mean with the global values, and the result goes to the file. All of it is
element-wise, so the result depends on the order of the updates (callers sort them) and not on the chunk size.
NumPy releases the GIL in its loops: call this in a thread.

Error: the sum is float64 and rounded once to the tensor's dtype, so a FedAvg value differs from the exact
mean by half a unit in the last place of that dtype, plus 2^-52 of the values' mean magnitude per client.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimle_server.hfl.strategies import Chunk, Strategy
from sbi import bfloat16
from sbi.growing import Reached
from sbi.reduced import is_delta
from sbi.tensors import (
    DTYPES,
    FLOATS,
    STORED,
    Array,
    InvalidTensors,
    Layout,
    TensorFile,
    TensorSpec,
    TensorWriter,
    check_update,
    describe,
    read_into,
)

CHUNK = 2**16
"""Values handled at once: few enough for the buffers to stay in the cache, which is what makes it fast."""


@dataclass(frozen=True)
class WeightedUpdate:
    """One client's update and its weight, usually the number of samples it was trained on; > 0."""

    path: Path
    weight: float


@dataclass(frozen=True)
class StrategyState:
    """Where a strategy finds what it remembers (None before the first round) and leaves it for the next."""

    before: Path | None = None
    after: Path | None = None


@dataclass(frozen=True)
class _Run:
    """Consecutive values of a tensor: the flat index of the first, how many, and their dtype in the file."""

    first: int
    count: int
    dtype: np.dtype[Any]

    @property
    def offset(self) -> int:
        """Bytes from the tensor's start to this run."""
        return self.first * self.dtype.itemsize


@dataclass(frozen=True)
class _Source:
    """A checked update: its share of the mean, and where it has each tensor, in the global model's order.

    `reduced` says of which of them it has in `dtype` instead of the model's own.
    """

    path: Path
    share: np.float64
    delta: bool
    starts: npt.NDArray[np.int64]
    reduced: npt.NDArray[np.bool_]
    dtype: str | None

    def place(self, index: int, run: _Run) -> tuple[int, _Run]:
        """Where a run of the tensor with this index begins in this file, and the run as it is there."""
        if self.reduced[index] and self.dtype is not None:
            run = replace(run, dtype=STORED[self.dtype])
        return int(self.starts[index]) + run.offset, run

    def is_bfloat16(self, index: int) -> bool:
        """Whether the tensor with this index is in bfloat16."""
        return self.dtype == "BF16" and bool(self.reduced[index])


@dataclass(frozen=True)
class _Sources:
    """The updates of a round, and the share of the mean that those have together which are differences."""

    each: Sequence[_Source]
    deltas: np.float64


def aggregate(
    strategy: Strategy,
    global_model: TensorFile,
    updates: Sequence[WeightedUpdate],
    out: Path,
    metadata: Mapping[str, str],
    state: StrategyState = StrategyState(),
    *,
    reduced: str | None = None,
    chunk: int = CHUNK,
    reached: Reached | None = None,
) -> None:
    """Write the next global model to `out`, and what the strategy remembers of it to `state.after`.

    `reached` is told how far the file has come, for whoever reads it meanwhile.

    Float tensors are combined by `strategy`; the others are copied from the global model. Updates may have wide
    floats in the dtype `reduced`, and be differences to the global model (`aimle.delta`). Nothing is left at
    `out` when this raises: InvalidTensors for an update or a remembered state that is not of this model, or a
    result that is not finite; ValueError for no updates or a weight that is not a positive number. That the
    updates are finite is the caller's check (`sbi.tensors.check_finite`), made when each arrives.
    """
    sources = _sources(updates, global_model, reduced)
    reader = _Reader(chunk)
    layout = {name: (spec.dtype, spec.shape) for name, spec in global_model.tensors.items()}
    with ExitStack() as files:
        result = files.enter_context(TensorWriter(out, layout, metadata, reached))
        memory = _Memory(strategy, global_model, state, reader, files)
        for index, (name, spec) in enumerate(global_model.tensors.items()):
            for run in _runs(spec, chunk):
                start = spec.start + run.offset
                if spec.dtype not in FLOATS:
                    result.put(name, run.first, reader.stored(global_model.path, start, run))
                    continue
                current = reader.stored(global_model.path, start, run).astype(np.float64)
                mean, remembered = reader.mean(sources, index, run, current), memory.load(name, run)
                new = strategy.combine(mean, current, remembered)
                result.put(name, run.first, _narrow(name, new, run.dtype))
                memory.store(name, run.first, remembered)


class _Reader:
    """Reads runs of values into buffers that the next call uses again."""

    def __init__(self, chunk: int) -> None:
        self._raw = np.empty(8 * chunk, np.uint8)
        self._scaled = np.empty(chunk, np.float64)
        self._sum = np.empty(chunk, np.float64)

    def stored(self, path: Path, start: int, run: _Run) -> Array:
        """A run's values as they are in the file, where they begin at byte `start`."""
        raw = self._raw[: run.count * run.dtype.itemsize]
        read_into(path, start, raw)
        return raw.view(run.dtype)

    def mean(self, sources: _Sources, index: int, run: _Run, current: Chunk) -> Chunk:
        """The weighted mean of a run of the tensor with this index, over all updates; `current`: the global values."""
        total, scaled = self._sum[: run.count], self._scaled[: run.count]
        total.fill(0)
        for source in sources.each:
            np.multiply(self._values(source, index, run), source.share, out=scaled)
            total += scaled
        if sources.deltas:
            np.multiply(current, sources.deltas, out=scaled)
            total += scaled
        return total

    def _values(self, source: _Source, index: int, run: _Run) -> Array:
        """An update's values of a run, in a dtype that NumPy computes with."""
        values = self.stored(source.path, *source.place(index, run))
        if not source.is_bfloat16(index):
            return values
        behind = self._raw[4 * run.count : 8 * run.count]  # the values are in the buffer's first quarter
        return bfloat16.widen(values, behind.view(np.float32))


class _Memory:
    """What the strategy remembers per parameter: one tensor `<name in strategy.memory>/<tensor>` each.

    Kept in float32, and in float64 for the tensors that are.
    """

    def __init__(
        self, strategy: Strategy, model: TensorFile, state: StrategyState, reader: _Reader, files: ExitStack
    ) -> None:
        self._initial = strategy.memory
        self._reader = reader
        self._layout: Layout = {
            f"{key}/{name}": ("F64" if spec.dtype == "F64" else "F32", spec.shape)
            for key in self._initial
            for name, spec in model.tensors.items()
            if spec.dtype in FLOATS
        }
        if not self._initial:
            return
        if state.after is None:
            raise ValueError("this strategy needs a place for what it remembers")
        self._before = None if state.before is None else self._checked(describe(state.before))
        self._after = files.enter_context(TensorWriter(state.after, self._layout, {}))

    def load(self, name: str, run: _Run) -> dict[str, Chunk]:
        """The remembered values of a run of tensor `name`, the strategy's to change."""
        return {key: self._load(key, f"{key}/{name}", run) for key in self._initial}

    def _load(self, key: str, tensor: str, run: _Run) -> Chunk:
        if self._before is None:
            return np.full(run.count, self._initial[key])
        spec = self._before.tensors[tensor]
        own = replace(run, dtype=DTYPES[spec.dtype])
        return self._reader.stored(self._before.path, spec.start + own.offset, own).astype(np.float64)

    def store(self, name: str, first: int, values: Mapping[str, Chunk]) -> None:
        """Keep the values that the strategy has changed for the next round."""
        for key, chunk in values.items():
            tensor = f"{key}/{name}"
            self._after.put(tensor, first, _narrow(tensor, chunk, DTYPES[self._layout[tensor][0]]))

    def _checked(self, file: TensorFile) -> TensorFile:
        if {name: (spec.dtype, spec.shape) for name, spec in file.tensors.items()} != self._layout:
            raise InvalidTensors("the remembered state belongs to another model or strategy")
        return file


def _sources(updates: Sequence[WeightedUpdate], model: TensorFile, reduced: str | None) -> _Sources:
    """The updates, checked against the global model, with their shares of the mean."""
    if not updates:
        raise ValueError("there is no update to aggregate")
    for update in updates:
        if not (math.isfinite(update.weight) and update.weight > 0):
            raise ValueError(f"weight {update.weight} is not a positive number")
    total = math.fsum(update.weight for update in updates)
    each = [_source(update, np.float64(update.weight / total), model, reduced) for update in updates]
    deltas = math.fsum(update.weight for update, source in zip(updates, each, strict=True) if source.delta)
    return _Sources(each, np.float64(deltas / total))


def _source(update: WeightedUpdate, share: np.float64, model: TensorFile, reduced: str | None) -> _Source:
    file = describe(update.path)
    check_update(file, model, reduced)
    # Compact arrays: the parsed headers of a thousand updates would be the largest thing in memory.
    starts = np.array([file.tensors[name].start for name in model.tensors], np.int64)
    own = np.array([file.tensors[name].dtype != spec.dtype for name, spec in model.tensors.items()], np.bool_)
    return _Source(update.path, share, is_delta(file.metadata), starts, own, reduced)


def _runs(spec: TensorSpec, chunk: int) -> Iterator[_Run]:
    dtype = DTYPES[spec.dtype]
    for first in range(0, spec.size, chunk):
        yield _Run(first, min(chunk, spec.size - first), dtype)


def _narrow(name: str, values: Chunk, dtype: np.dtype[Any]) -> Array:
    """`values` in the tensor's dtype; InvalidTensors if they are not finite there."""
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    if not np.isfinite(narrow).all():
        raise InvalidTensors(f"the aggregate of tensor {name!r} is not finite")
    return narrow

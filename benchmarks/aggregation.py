"""FedAvg alone: ten updates of 40 MB in files become a model file, against NumPy's copy of as many bytes.

`aggregate` is called as the server calls it, in this process: it reads the updates (from the page cache) and
writes the result. `numpy.copy` makes new arrays, `copyto` fills one that is there, which no allocation slows.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aimle_server.hfl.aggregation import WeightedUpdate, aggregate
from aimle_server.hfl.strategies import FedAvg
from benchmarks.measure import Figures, Row, Scale, Target, alternate, column
from benchmarks.server import in_tensors
from sbi import tensors

GROUP = "aggregation"
CLIENTS = 10

Stack = npt.NDArray[np.float32]
"""All updates: [client, value]."""


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Seconds for all updates."""
    values = scale.size(10_000_000, 100_000)
    with tempfile.TemporaryDirectory(prefix="aimle-bench-") as name:
        folder = Path(name)
        stack = np.repeat(np.arange(1, CLIENTS + 1, dtype=np.float32)[:, None], values, axis=1)
        kept = np.ones_like(stack)
        _write(folder, stack)

        async def ours() -> Figures:
            (folder / "result").unlink(missing_ok=True)  # a round's model replaces no other
            return {"seconds": _seconds(lambda: _aggregate(folder))}

        async def copies() -> Figures:
            return {"new": _seconds(lambda: np.copy(stack)), "kept": _seconds(lambda: np.copyto(kept, stack))}

        for warm_up in (ours, copies):
            await warm_up()
        _check(folder)
        mine, theirs = await alternate(ours, copies, scale.repetitions)
    what = f"FedAvg, {CLIENTS} updates of {4 * values / 1e6:g} MB"
    seconds = column(mine, "seconds")
    yield Row(GROUP, what, "s", seconds, "numpy.copy", column(theirs, "new"), Target(1.5))
    yield Row(GROUP, what, "s", seconds, "numpy.copyto, memory at hand", column(theirs, "kept"))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _write(folder: Path, stack: Stack) -> None:
    """The global model and the updates, as files."""
    for name, values in (("model", 0 * stack[0]), *((f"update-{n}", row) for n, row in enumerate(stack))):
        tensors.write(folder / name, in_tensors(values), {})


def _aggregate(folder: Path) -> None:
    updates = [WeightedUpdate(folder / f"update-{number}", 1.0) for number in range(CLIENTS)]
    aggregate(FedAvg(), tensors.describe(folder / "model"), updates, folder / "result", {})


def _check(folder: Path) -> None:
    result, _ = tensors.read(folder / "result")
    for name, part in result.items():
        if not np.allclose(part, (CLIENTS + 1) / 2):
            raise RuntimeError(f"{name} is not the mean of the updates")

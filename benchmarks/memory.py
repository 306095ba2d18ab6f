"""Peak memory of processes, read from /proc while they live; standard library only, for the peers use it too."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS = 0.1


class PeakMemory:
    """The sum of the peaks of resident memory (VmHWM) of some processes, while the block runs.

    Processes that come and go are found by asking `find` again and again. The sum of peaks is at least the peak
    of the sum.

    Attributes:
        peaks: bytes, by process and what it calls itself.
    """

    def __init__(self, find: Callable[[], Iterable[int]]) -> None:
        self.peaks: dict[tuple[int, str], int] = {}
        self._find = find
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def bytes(self) -> int:
        """The sum."""
        return sum(self.peaks.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            last = self._ended.wait(_SECONDS)
            for pid in self._find():
                if peak := _peak(pid):
                    self.peaks[pid, command(pid)[:200]] = peak
            if last:
                return


def command(pid: int) -> str:
    """A process's command line; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {pid: _parent(pid) for pid in _pids()}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def commanded(*texts: str) -> list[int]:
    """The processes whose command line has one of these texts."""
    return [pid for pid in _pids() if any(text in command(pid) for text in texts)]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)

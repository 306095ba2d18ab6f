"""The stages that a model was joined of: which part is of which of them, and who may run it."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from itertools import chain, pairwise

import numpy as np

from aimle_server.split.planner import Flags


class Stages:
    """The stages of one model.

    Args:
        limits: borders at which they begin and end: one more than there are stages, the first is 0.
        workers: for each stage the nodes that may run something of it; None: all nodes may run all of it.

    Attributes:
        allowed: of each node that is named, as of Problem.
    """

    def __init__(self, limits: Sequence[int], workers: Sequence[Collection[str]] | None) -> None:
        self._limits = limits
        self._open = workers is None
        self.allowed = {name: self._parts_for(name, workers or ()) for name in chain(*(workers or ()))}

    def may_work(self, name: str) -> bool:
        """Whether a node may run anything."""
        return self._open or name in self.allowed

    def largest(self, name: str) -> tuple[int, int]:
        """The first one of the largest parts that a node may run, as it may."""
        if self._open:
            return 0, self._limits[-1]
        border = np.arange(self._limits[-1] + 1)
        sizes = np.where(self.allowed[name], border - border[:, None], 0)
        first, last = divmod(int(sizes.argmax()), len(border))
        return first, last

    def of(self, first: int, last: int) -> range:
        """The numbers, from 0, of the stages that the part between two borders has something of."""
        return range(bisect_right(self._limits, first) - 1, bisect_left(self._limits, last))

    def _parts_for(self, name: str, workers: Sequence[Collection[str]]) -> Flags:
        """A part is allowed if each piece of it is of a stage that names the node."""
        foreign = np.zeros(self._limits[-1] + 1, np.intp)
        for (begin, end), named in zip(pairwise(self._limits), workers, strict=True):
            foreign[begin + 1 : end + 1] = name not in named
        before = foreign.cumsum()
        allowed: Flags = before == before[:, None]
        return allowed

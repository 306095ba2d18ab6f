"""What a strategy decides: the next value of each parameter, from the clients' mean and what it remembers."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

Chunk = npt.NDArray[np.float64]
"""Any run of consecutive values of one tensor, as a flat float64 array."""


class Strategy(Protocol):
    """Element-wise by design: a strategy sees one run of values at a time, never a tensor or a model."""

    @property
    def memory(self) -> Mapping[str, float]:
        """What is remembered per parameter from round to round: name -> value before the first round."""

    def combine(self, mean: Chunk, current: Chunk, memory: Mapping[str, Chunk]) -> Chunk:
        """The next global values.

        `mean` is the weighted mean of the clients' values, `current` the global values they started from;
        `memory` has one array per name of `self.memory`, which this updates in place. All have one shape.
        """

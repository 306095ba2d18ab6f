"""FedAdam (Reddi et al. 2021, Adaptive Federated Optimization, Algorithm 2)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aimle_server.hfl.strategies.base import Chunk


@dataclass(frozen=True)
class FedAdam:
    """Adam at the server: the mean of the clients' changes takes the place of the gradient.

    As in the paper there is no bias correction, and the second moment starts at `tau` squared.
    """

    learning_rate: float = 0.1
    """Size of the server's step (the paper's eta; `serverLearningRate`), > 0."""
    beta1: float = 0.9
    """Share of the first moment that is kept each round, 0 <= beta1 < 1."""
    beta2: float = 0.99
    """Share of the second moment that is kept each round, 0 <= beta2 < 1."""
    tau: float = 1e-3
    """Bounds how strongly small changes are amplified (the degree of adaptivity), > 0."""

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("serverLearningRate", self.learning_rate, 0 < self.learning_rate < float("inf")),
            ("beta1", self.beta1, 0 <= self.beta1 < 1),
            ("beta2", self.beta2, 0 <= self.beta2 < 1),
            ("tau", self.tau, 0 < self.tau < float("inf")),
        ):
            if not valid:
                raise ValueError(f"{name}: {value} is out of range")

    @property
    def memory(self) -> Mapping[str, float]:
        """The moments of the change: `m` (mean) and `v` (mean square)."""
        return {"m": 0.0, "v": self.tau**2}

    def combine(self, mean: Chunk, current: Chunk, memory: Mapping[str, Chunk]) -> Chunk:
        """One step from `current` along the first moment, scaled by the root of the second."""
        change, m, v = mean - current, memory["m"], memory["v"]
        m[:] = self.beta1 * m + (1 - self.beta1) * change
        v[:] = self.beta2 * v + (1 - self.beta2) * change**2
        return current + self.learning_rate * m / (np.sqrt(v) + self.tau)

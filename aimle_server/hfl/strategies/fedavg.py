"""FedAvg (McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aimle_server.hfl.strategies.base import Chunk


@dataclass(frozen=True)
class FedAvg:
    """The next global model is the clients' mean, weighted by their numbers of samples."""

    memory: Mapping[str, float] = field(default_factory=dict, init=False)

    def combine(self, mean: Chunk, current: Chunk, memory: Mapping[str, Chunk]) -> Chunk:
        """The mean as it is."""
        return mean

"""Aggregation strategies, one per file; the training profile names one and sets its parameters."""

from collections.abc import Callable, Mapping
from typing import Any

from aimle_server.hfl.strategies.base import Chunk, Strategy
from aimle_server.hfl.strategies.fedadam import FedAdam
from aimle_server.hfl.strategies.fedavg import FedAvg
from aimle_server.hfl.strategies.fedprox import FedProx

__all__ = ["STRATEGIES", "Chunk", "FedAdam", "FedAvg", "FedProx", "Strategy", "strategy_for"]

STRATEGIES: Mapping[str, Callable[..., Strategy]] = {"FEDAVG": FedAvg, "FEDPROX": FedProx, "FEDADAM": FedAdam}
"""The profile's `strategy` -> what makes it, from the parameters that `_PARAMETERS` lists."""

_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "FEDADAM": {"serverLearningRate": "learning_rate", "beta1": "beta1", "beta2": "beta2", "tau": "tau"}
}


def strategy_for(profile: Mapping[str, Any]) -> Strategy:
    """The strategy of a training profile, FEDAVG if it names none.

    Attributes that belong to another strategy or to the clients have no effect here. ValueError names the
    attribute that is unknown or out of range.
    """
    name = profile.get("strategy", "FEDAVG")
    if name not in STRATEGIES:
        raise ValueError(f"strategy: {name!r} is not one of {', '.join(STRATEGIES)}")
    parameters = _PARAMETERS.get(name, {})
    return STRATEGIES[name](
        **{ours: profile[theirs] for theirs, ours in parameters.items() if theirs in profile}
    )

"""A round's local training as a task that can be given away (TS 23.482 8.6): what the source knows of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aimle_client.runtime.reins import Reins
from aimle_client.trainers.resumable import FitState
from sbi.digests import Buffer

TRAINING, ROUND = "aimle.training", "aimle.round"
ITERATIONS, TOTAL = "aimle.iterations", "aimle.total"


@dataclass
class Task:
    """One of them, under way.

    Attributes:
        dataset: identifier of its data set; `service`: VAL service.
        metadata: of the round's model.
        state_url: where its state can be left; None: the server has no place for it.
        began: when.
        reins: of the training itself.
        claimed: whether somebody is about to give it away already.
        giving: whether the server is being told so, or has been.
    """

    dataset: str
    service: str
    metadata: Mapping[str, str]
    state_url: str | None = field(repr=False)
    began: datetime
    reins: Reins
    claimed: bool = False
    giving: bool = False

    @property
    def training_id(self) -> str | None:
        """The training that it is a part of, if the server names it."""
        return self.metadata.get(TRAINING)

    @property
    def hand_over_url(self) -> str | None:
        """Where the server is told that it is another client's now."""
        return self.state_url and f"{self.state_url.rpartition('/')[0]}/hand-over"

    def file(self, state: FitState) -> list[Buffer]:
        """The file in which its state travels."""
        known = {name: self.metadata[name] for name in (TRAINING, ROUND) if name in self.metadata}
        details = {ITERATIONS: str(state.details.get("done", self.reins.done)), TOTAL: str(self.reins.total)}
        return state.dump(known | details)

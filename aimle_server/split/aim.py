"""What a pipeline is to be (ITU-T F.748.20: the objective and the constraints of a partition)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from aimle_server.split.planner import Objective


@dataclass(frozen=True)
class Aim:
    """What a pipeline is to be.

    Attributes:
        objective: least latency or highest throughput.
        batch: samples of a frame.
        origin: the node where inputs come from and results are wanted; None: their ways do not count.
        workers: for each stage of the model the nodes that may run something of it; None: all nodes may run all of it.
        in_order: all workers run, in their order, and only the cuts are chosen.
        most_cuts: how many cuts of the model are considered, beside those between its stages; None: all.
        margin: a change of a measurement by more than this fraction makes a new plan, and a plan that is better by more
            than this fraction takes the place of the one that works.
        look_every: seconds between two looks at the nodes.
        review_every: looks between two reviews, at which speeds and links are measured again.
    """

    objective: Objective = Objective.LATENCY
    batch: int = 1
    origin: str | None = None
    workers: Sequence[Sequence[str]] | None = None
    in_order: bool = False
    most_cuts: int | None = None
    margin: float = 0.25
    look_every: float = 1.0
    review_every: int = 60

    @property
    def order(self) -> list[str] | None:
        """The nodes in the order in which all of them run; None: as is best.

        One that ends a stage and begins the next one has a part of both.
        """
        if not self.in_order or self.workers is None:
            return None
        return [name for name, _ in groupby(chain(*self.workers))]

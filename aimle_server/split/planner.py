"""Which node runs which part of a model, one after another (ITU-T F.748.20: partition of a DNN by predicted latency).

An exact optimum: dynamic programming over the borders between parts and the sets of nodes that are used up, each node
having one part at most. Borders are numbered: 0 are the model's inputs, the last one its results, those between are
its cuts. A frame is what travels at once, one or more samples; all numbers are for one frame.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

MOST_NODES = 8
"""With how many nodes the optimum is found in about a second; each more doubles that."""


class NoPlan(Exception):
    """No order of these nodes can run the model."""


class Objective(Enum):
    """What is best: the least time from a frame's inputs to its results, or the most frames per second."""

    LATENCY = "LATENCY"
    THROUGHPUT = "THROUGHPUT"


@dataclass(frozen=True)
class Link:
    """The way from one node to another.

    Attributes:
        bytes_per_s: how fast bytes follow one another.
        latency_s: how long each is on its way.
    """

    bytes_per_s: float
    latency_s: float

    def busy(self, size: int) -> float:
        """Seconds during which so many bytes keep the link from others."""
        return size / self.bytes_per_s

    def seconds(self, size: int) -> float:
        """Seconds until the last one of so many bytes has arrived."""
        return self.latency_s + self.busy(size)


@dataclass(frozen=True)
class Stage:
    """A node and its part of the model: from border `first_cut` to border `last_cut`."""

    node: str
    first_cut: int
    last_cut: int


@dataclass(frozen=True)
class Plan:
    """Who runs what, in order, and what to expect of it.

    Attributes:
        stages: from the head to the tail.
        latency_s: from a frame's inputs to its results, with nothing else under way.
        throughput_per_s: frames per second when always one waits.
    """

    stages: tuple[Stage, ...]
    latency_s: float
    throughput_per_s: float


@dataclass(frozen=True)
class Problem:
    """What a plan is made from.

    Attributes:
        sizes: bytes that cross each border.
        times: by node and by part (first border, last border), seconds of computing; a part that is not there cannot
            run on this node.
        links: by (from, to); one that is not there cannot be used.
        origin: where inputs come from and results are wanted; None: their ways do not count.
    """

    sizes: Sequence[int]
    times: Mapping[str, Mapping[tuple[int, int], float]]
    links: Mapping[tuple[str, str], Link]
    origin: str | None = None

    def arrival(self, node: str) -> "Step | None":
        """The inputs' way to the first node; None: there is none."""
        return NOTHING if self.origin is None else self.transfer(self.origin, node, 0)

    def departure(self, node: str) -> "Step | None":
        """The results' way from the last node; None: there is none."""
        return NOTHING if self.origin is None else self.transfer(node, self.origin, len(self.sizes) - 1)

    def transfer(self, sender: str, receiver: str, border: int) -> "Step | None":
        """What crosses a border, from one node to another; None: there is no way."""
        if sender == receiver:
            return NOTHING
        link = self.links.get((sender, receiver))
        size = self.sizes[border]
        return None if link is None else Step(link.seconds(size), link.busy(size))

    def compute(self, stage: Stage) -> "Step | None":
        """A part on a node; None: it cannot run there."""
        seconds = self.times.get(stage.node, {}).get((stage.first_cut, stage.last_cut))
        return None if seconds is None else Step(seconds, seconds)


@dataclass(frozen=True)
class Step:
    """One thing that happens to a frame: how long it takes, and how long it keeps the next frame waiting."""

    seconds: float
    busy: float


NOTHING = Step(0.0, 0.0)

Merge = Callable[[float, Step], float]
"""(cost so far, the next step) -> cost; never less than before."""

_State = tuple[frozenset[str], str | None]
_Reached = dict[_State, tuple[float, tuple[Stage, ...]]]


def plan(problem: Problem, objective: Objective = Objective.LATENCY) -> Plan:
    """The best plan; among those with the highest throughput, the one with the least latency.

    Raises:
        NoPlan: none is possible.
        ValueError: more than `MOST_NODES` nodes.
    """
    nodes = sorted(problem.times)
    if len(nodes) > MOST_NODES:
        raise ValueError(f"at most {MOST_NODES} nodes can be planned with, not {len(nodes)}")
    busiest = math.inf
    if objective is Objective.THROUGHPUT:
        busiest, _ = _search(problem, nodes, lambda cost, step: max(cost, step.busy))

    def seconds(cost: float, step: Step) -> float:
        return cost + step.seconds if step.busy <= busiest else math.inf

    _, stages = _search(problem, nodes, seconds)
    return predict(problem, stages)


def better(one: Plan, other: Plan, objective: Objective) -> float:
    """How much better one plan is than another: 0.25 for a quarter faster; negative if it is worse."""
    if objective is Objective.LATENCY:
        return other.latency_s / one.latency_s - 1 if one.latency_s else 0.0
    return one.throughput_per_s / other.throughput_per_s - 1 if math.isfinite(one.throughput_per_s) else 0.0


def predict(problem: Problem, stages: Sequence[Stage]) -> Plan:
    """What to expect of these stages.

    Raises:
        NoPlan: a node cannot run its part, or there is no way between two.
    """
    steps = [problem.arrival(stages[0].node), problem.departure(stages[-1].node)]
    steps += [problem.compute(stage) for stage in stages]
    steps += [problem.transfer(one.node, two.node, one.last_cut) for one, two in pairwise(stages)]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        raise NoPlan("these stages cannot run one after another")
    busiest = max(step.busy for step in known)
    throughput = 1 / busiest if busiest else math.inf
    return Plan(tuple(stages), sum(step.seconds for step in known), throughput)


def _search(problem: Problem, nodes: Sequence[str], merge: Merge) -> tuple[float, tuple[Stage, ...]]:
    """The least cost, and the stages that have it.

    `reached[border]` has, by the nodes used so far and the last of them, the cheapest way of having come there.
    """
    end = len(problem.sizes) - 1
    reached: list[_Reached] = [{} for _ in problem.sizes]
    reached[0][frozenset(), None] = (0.0, ())
    for border in range(end):
        for (used, before), (cost, stages) in reached[border].items():
            for node in nodes:
                way = problem.arrival(node) if before is None else problem.transfer(before, node, border)
                if node in used or way is None:
                    continue
                arrived = merge(cost, way)
                for stage, step in _parts(problem, node, border):
                    state = (used | {node}, node)
                    _keep(reached[stage.last_cut], state, merge(arrived, step), (*stages, stage))
    return _cheapest(problem, reached[end], merge)


def _parts(problem: Problem, node: str, border: int) -> Iterator[tuple[Stage, Step]]:
    """What a node can run from a border on."""
    for last in range(border + 1, len(problem.sizes)):
        stage = Stage(node, border, last)
        step = problem.compute(stage)
        if step is not None:
            yield stage, step


def _keep(reached: _Reached, state: _State, cost: float, stages: tuple[Stage, ...]) -> None:
    if state not in reached or cost < reached[state][0]:
        reached[state] = (cost, stages)


def _cheapest(problem: Problem, reached: _Reached, merge: Merge) -> tuple[float, tuple[Stage, ...]]:
    """Of all ways to the end; of equal ones, one with fewest stages."""
    costs = [
        (merge(cost, way), len(stages), stages)
        for (_, last), (cost, stages) in reached.items()
        if last is not None and (way := problem.departure(last)) is not None
    ]
    cost, _, stages = min(costs, key=lambda found: found[:2], default=(math.inf, 0, ()))
    if math.isinf(cost):
        raise NoPlan("no order of these nodes can run the model")
    return cost, stages

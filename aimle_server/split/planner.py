"""Which node runs which part of a model, one after another (ITU-T F.748.20: partition of a DNN by predicted latency).

An exact optimum: dynamic programming over the borders between parts and the sets of nodes that are used up, each node
having one part at most. Borders are numbered: 0 are the model's inputs, the last one its results, those between are
its cuts. A frame is what travels at once, one or more samples; all numbers are for one frame.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MOST_NODES = 8
"""With how many nodes the optimum is found in less than a second; each more doubles that."""


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

    def seconds(self, size: int) -> float:
        """Seconds until the last one of so many bytes has arrived."""
        return self.latency_s + size / self.bytes_per_s


@dataclass(frozen=True)
class Stage:
    """A node and its part of the model: from border `first_cut` to border `last_cut`."""

    node: str
    first_cut: int
    last_cut: int


@dataclass(frozen=True)
class Plan:
    """Stages in their order, and what to expect of it.

    Attributes:
        stages: from the head to the tail.
        latency_s: from a frame's inputs to its results, with nothing else under way.
        throughput_per_s: frames per second when always one waits.
    """

    stages: tuple[Stage, ...]
    latency_s: float
    throughput_per_s: float


@dataclass(frozen=True)
class Cost:
    """What happens to a frame, at each border or in each part; infinite where it cannot happen.

    Attributes:
        seconds: how long it takes.
        busy: seconds for which it keeps the next frame waiting.
    """

    seconds: Array
    busy: Array


@dataclass(frozen=True)
class Problem:
    """What a plan is made from.

    Attributes:
        sizes: bytes that cross each border.
        times: by node, float64[borders, borders]: seconds of computing the part from one border to another, infinite
            where it cannot run on this node.
        links: by (from, to); one that is not there cannot be used.
        origin: where inputs come from and results are wanted; None: their ways do not count.
        order: the nodes in the order in which all of them are to run; None: as is best.
        allowed: by node, bool[borders, borders]: which parts it may run; a node that is not there may run all.
    """

    sizes: Sequence[int]
    times: Mapping[str, Array]
    links: Mapping[tuple[str, str], Link]
    origin: str | None = None
    order: Sequence[str] | None = None
    allowed: Mapping[str, Flags] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The last border."""
        return len(self.sizes) - 1

    def transfer(self, sender: str | None, receiver: str | None) -> Cost:
        """What it takes to send what crosses each border; None instead of a node is the origin."""
        one, two = sender or self.origin, receiver or self.origin
        nothing = np.zeros(len(self.sizes))
        if one is None or two is None or one == two:
            return Cost(nothing, nothing)
        link = self.links.get((one, two))
        if link is None:
            return Cost(nothing + math.inf, nothing + math.inf)
        busy = np.asarray(self.sizes, np.float64) / link.bytes_per_s
        return Cost(link.latency_s + busy, busy)

    def compute(self, node: str) -> Cost:
        """What each part takes on a node, [first border, last border]; infinite where it may not run it."""
        times = np.where(self.allowed.get(node, True), self.times[node], math.inf)
        return Cost(times, times)

    def may_follow(self, used: frozenset[str]) -> Sequence[str]:
        """Which nodes may come after those that are used."""
        candidates = self.times if self.order is None else self.order[len(used) : len(used) + 1]
        return [node for node in candidates if node in self.times and node not in used]

    def may_end(self, used: frozenset[str]) -> bool:
        """Whether these nodes are enough."""
        return self.order is None or len(used) == len(self.order)


def plan(problem: Problem, objective: Objective = Objective.LATENCY) -> Plan:
    """The best plan; among those with the highest throughput, the one with the least latency.

    Raises:
        NoPlan: none is possible.
        ValueError: more than `MOST_NODES` nodes.
    """
    if len(problem.times) > MOST_NODES:
        raise ValueError(f"at most {MOST_NODES} nodes can be planned with, not {len(problem.times)}")
    busiest = math.inf
    if objective is Objective.THROUGHPUT:
        busiest, _ = _Search(problem, np.maximum, lambda cost: cost.busy).best()

    def seconds(cost: Cost) -> Array:
        return np.where(cost.busy <= busiest, cost.seconds, math.inf)

    _, stages = _Search(problem, np.add, seconds).best()
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
    steps = list(_steps(problem, stages))
    latency, busiest = sum(seconds for seconds, _ in steps), max(busy for _, busy in steps)
    if math.isinf(latency):
        raise NoPlan("these stages cannot run one after another")
    return Plan(tuple(stages), latency, 1 / busiest if busiest else math.inf)


def _steps(problem: Problem, stages: Sequence[Stage]) -> Iterator[tuple[float, float]]:
    """Seconds, and seconds for which the next frame waits, of all that happens to a frame."""
    nodes = [None, *(stage.node for stage in stages), None]
    borders = [0, *(stage.last_cut for stage in stages)]
    for (one, two), border in zip(pairwise(nodes), borders, strict=True):
        way = problem.transfer(one, two)
        yield float(way.seconds[border]), float(way.busy[border])
    for stage in stages:
        if stage.node not in problem.times:
            yield math.inf, math.inf
            continue
        seconds = float(problem.compute(stage.node).seconds[stage.first_cut, stage.last_cut])
        yield seconds, seconds


@dataclass(frozen=True)
class _Ways:
    """The cheapest way to each border with certain nodes, of which `node` is the last one.

    Attributes:
        costs: float64[borders].
        begins: where the part of `node` begins that ends at a border.
        former: the ways without `node`, by their last node; none where it is the first one.
        which: of those, the one that comes to a border.
    """

    node: str
    costs: Array
    begins: npt.NDArray[np.intp]
    former: Sequence["_Ways"]
    which: npt.NDArray[np.intp]

    def stages(self, end: int) -> tuple[Stage, ...]:
        """The stages up to a border."""
        begin = int(self.begins[end])
        before = self.former[self.which[begin]].stages(begin) if self.former else ()
        return (*before, Stage(self.node, begin, end))


class _Search:
    """Finds the stages that cost least.

    Args:
        join: (cost so far, cost of the next step) -> cost of both.
        cost_of: the numbers of a Cost that count here.
    """

    def __init__(self, problem: Problem, join: np.ufunc, cost_of: Callable[[Cost], Array]) -> None:
        names = [None, *problem.times]
        self._problem = problem
        self._join = join
        self._hops = {(one, two): cost_of(problem.transfer(one, two)) for one in names for two in names}
        self._parts = {node: cost_of(problem.compute(node)) for node in problem.times}

    def best(self) -> tuple[float, tuple[Stage, ...]]:
        """The least cost, and the stages that have it; of equal ones, one with fewest stages."""
        end, least = self._problem.end, math.inf
        stages: tuple[Stage, ...] = ()
        for ways in self._all():
            cost = self._join(ways.costs[end], self._hops[ways.node, None][end])
            if cost < least:
                least, stages = float(cost), ways.stages(end)
        if not stages:
            raise NoPlan("no order of these nodes can run the model")
        return least, stages

    def _all(self) -> Iterator[_Ways]:
        """Those with one node first, then those with two, and so on."""
        reached: dict[frozenset[str], list[_Ways]] = {frozenset(): []}
        while reached:
            found: dict[frozenset[str], list[_Ways]] = {}
            for used, former in reached.items():
                for node in self._problem.may_follow(used):
                    found.setdefault(used | {node}, []).append(self._longer(former, node))
            for used, several in found.items():
                if self._problem.may_end(used):
                    yield from several
            reached = found

    def _longer(self, former: Sequence[_Ways], node: str) -> _Ways:
        """These ways, and a part on another node after them."""
        arrived, which = self._arrived(former, node)
        costs = self._join(arrived[:, None], self._parts[node])
        return _Ways(node, costs.min(axis=0), costs.argmin(axis=0), former, which)

    def _arrived(self, former: Sequence[_Ways], node: str) -> tuple[Array, npt.NDArray[np.intp]]:
        """The least cost at which a node has what crosses a border, and by which of the former ways."""
        if not former:
            costs = np.full(len(self._problem.sizes), math.inf)
            costs[0] = self._hops[None, node][0]
            return costs, np.zeros(len(costs), np.intp)
        each = np.stack([self._join(ways.costs, self._hops[ways.node, node]) for ways in former])
        return each.min(axis=0), each.argmin(axis=0)

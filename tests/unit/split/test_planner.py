"""The planner: an exact optimum, as trying everything finds it; and what the numbers of a plan mean."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimle_server.split.planner import (
    Array,
    Link,
    NoPlan,
    Objective,
    Plan,
    Problem,
    Stage,
    better,
    plan,
    predict,
)

NODES = "abcd"
SECONDS = st.floats(0.001, 10)


def matrix(borders: int, seconds: Mapping[tuple[int, int], float]) -> Array:
    """Times of a node's parts; what is not there cannot run."""
    times = np.full((borders, borders), math.inf)
    for part, value in seconds.items():
        times[part] = value
    return times


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to four nodes and four cuts; here and there a part that does not run or may not, or no link."""
    nodes = NODES[: draw(st.integers(1, 4))]
    borders = draw(st.integers(2, 6))
    parts = list(combinations(range(borders), 2))
    return Problem(
        sizes=draw(st.lists(st.integers(1, 1000), min_size=borders, max_size=borders)),
        times={
            node: matrix(borders, {part: draw(SECONDS) for part in parts if draw(st.integers(0, 9))})
            for node in nodes
        },
        links={
            (one, two): Link(draw(st.floats(10, 10_000)), draw(st.floats(0, 2)))
            for one, two in permutations([*nodes, "outside"], 2)
            if draw(st.integers(0, 9))
        },
        origin=draw(st.sampled_from([None, "outside", *nodes])),
        order=draw(st.one_of(st.none(), st.permutations(nodes))),
        allowed={
            node: np.array(draw(st.lists(st.booleans(), min_size=borders**2, max_size=borders**2))).reshape(
                borders, borders
            )
            for node in nodes
            if draw(st.booleans())
        },
    )


def everything(problem: Problem) -> Iterator[tuple[float, float]]:
    """Latency and throughput of every order of nodes with every choice of cuts that can run, by plain arithmetic."""
    end = len(problem.sizes) - 1
    orders = [problem.order] if problem.order else everyone(problem.times)
    for order in orders:
        for cuts in combinations(range(1, end), len(order) - 1):
            borders = [0, *cuts, end]
            hops = list(zip(order, order[1:], cuts, strict=False))
            if problem.origin is not None:
                hops = [(problem.origin, order[0], 0), *hops, (order[-1], problem.origin, end)]
            try:
                used = [(problem.links[one, two], problem.sizes[cut]) for one, two, cut in hops if one != two]
            except KeyError:
                continue
            parts = [(node, borders[n], borders[n + 1]) for n, node in enumerate(order)]
            if not all(
                problem.allowed[node][first, last] for node, first, last in parts if node in problem.allowed
            ):
                continue
            computing = [problem.times[node][first, last] for node, first, last in parts]
            sending = [size / link.bytes_per_s for link, size in used]
            latency = sum(computing) + sum(sending) + sum(link.latency_s for link, _ in used)
            if latency < math.inf:
                yield latency, 1 / max(computing + sending)


def everyone(nodes: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Each order of each number of nodes."""
    names = list(nodes)
    for length in range(1, len(names) + 1):
        yield from permutations(names, length)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_least_latency_is_that_of_trying_everything(problem: Problem) -> None:
    """No order and no cuts are faster than the plan, and the plan's prediction is theirs; or nothing can run."""
    found = list(everything(problem))
    if not found:
        with pytest.raises(NoPlan):
            plan(problem)
        return
    assert plan(problem).latency_s == pytest.approx(min(latency for latency, _ in found))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_highest_throughput_is_that_of_trying_everything(problem: Problem) -> None:
    """No order and no cuts carry more frames, and none that carry as many are faster."""
    found = list(everything(problem))
    if not found:
        with pytest.raises(NoPlan):
            plan(problem, Objective.THROUGHPUT)
        return
    best = plan(problem, Objective.THROUGHPUT)
    most = max(throughput for _, throughput in found)
    assert best.throughput_per_s == pytest.approx(most)
    fastest = min(latency for latency, throughput in found if throughput >= most * (1 - 1e-9))
    assert best.latency_s == pytest.approx(fastest)


@pytest.mark.parametrize("objective", Objective)
def test_eight_nodes_as_trying_everything_finds_it(objective: Objective) -> None:
    """Also of eight nodes and four cuts the plan is the best of all 15,688 ways."""
    rng = np.random.default_rng(3)
    nodes = "abcdefgh"
    problem = Problem(
        sizes=rng.integers(100, 1000, 6).tolist(),
        times={node: np.sort(rng.uniform(0.1, 1, (6, 6)), axis=1) for node in nodes},
        links={pair: Link(rng.uniform(500, 5000), rng.uniform(0, 0.1)) for pair in permutations(nodes, 2)},
        origin="a",
    )
    found, best = list(everything(problem)), plan(problem, objective)
    assert len(found) == 15_688
    if objective is Objective.LATENCY:
        assert best.latency_s == pytest.approx(min(latency for latency, _ in found))
    else:
        assert best.throughput_per_s == pytest.approx(max(throughput for _, throughput in found))


def three_nodes(uplink: float) -> Problem:
    """A slow device, an edge ten times as fast and a cloud a hundred times; 1 s of work in two halves."""
    work = matrix(3, {(0, 1): 0.5, (1, 2): 0.5, (0, 2): 1.0})
    return Problem(
        sizes=[1000, 100, 10],
        times={
            "ue": work,
            "edge": work / 10,
            "cloud": work / 100,
        },
        links={
            pair: Link(uplink if "ue" in pair else 1e5, 0.01 if "ue" in pair else 0.05)
            for pair in permutations(["ue", "edge", "cloud"], 2)
        },
        origin="ue",
    )


@pytest.mark.parametrize(
    ("uplink", "expected"),
    [
        (1e6, [Stage("cloud", 0, 2)]),
        (1e3, [Stage("ue", 0, 1), Stage("cloud", 1, 2)]),
        (1e2, [Stage("ue", 0, 2)]),
    ],
)
def test_the_slower_the_uplink_the_more_stays_at_the_device(uplink: float, expected: list[Stage]) -> None:
    """A fast uplink carries the inputs away, a slow one the smaller tensor in the middle, a bad one nothing."""
    assert list(plan(three_nodes(uplink)).stages) == expected


def test_the_numbers_of_a_plan() -> None:
    """Latency is every way and every computing; throughput is one over the busiest of them."""
    found = predict(three_nodes(1e3), [Stage("ue", 0, 1), Stage("cloud", 1, 2)])
    assert found.latency_s == pytest.approx(0.5 + (0.01 + 0.1) + 0.005 + (0.01 + 0.01))
    assert found.throughput_per_s == pytest.approx(2.0)


def test_stages_that_cannot_follow_one_another() -> None:
    """A prediction for a link or a part that is not there is an error, not infinity."""
    with pytest.raises(NoPlan):
        predict(three_nodes(1e3), [Stage("ue", 0, 1), Stage("nobody", 1, 2)])


def test_how_much_better() -> None:
    """Half the time is twice as good, and so are twice the frames."""
    one, other = Plan((), 1.0, 20.0), Plan((), 2.0, 10.0)
    assert better(one, other, Objective.LATENCY) == pytest.approx(1.0)
    assert better(one, other, Objective.THROUGHPUT) == pytest.approx(1.0)
    assert better(other, one, Objective.LATENCY) == pytest.approx(-0.5)


def test_eight_nodes_and_a_hundred_cuts() -> None:
    """The largest problems that are taken are solved in seconds, one node more is refused."""
    borders = 102
    parts = list(combinations(range(borders), 2))

    def size_of(count: int) -> Problem:
        nodes = "abcdefghi"[:count]
        times = {
            node: matrix(borders, {part: (part[1] - part[0]) / (3 + n) for part in parts})
            for n, node in enumerate(nodes)
        }
        links = {pair: Link(100.0, 0.1) for pair in permutations(nodes, 2)}
        return Problem([1000 - 9 * n for n in range(borders)], times, links, origin="a")

    began = time.monotonic()
    found = plan(size_of(8), Objective.THROUGHPUT)
    assert time.monotonic() - began < 20
    assert math.isfinite(found.latency_s)
    assert len(found.stages) > 1
    with pytest.raises(ValueError, match="at most 8"):
        plan(size_of(9))

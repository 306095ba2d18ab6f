"""The planner: an exact optimum, as trying everything finds it; and what the numbers of a plan mean."""

import math
import time
from collections.abc import Iterator
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimle_server.split.planner import (
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


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Up to four nodes and four cuts; here and there a part that does not run, or a link that is not there."""
    nodes = NODES[: draw(st.integers(1, 4))]
    borders = draw(st.integers(2, 6))
    parts = list(combinations(range(borders), 2))
    return Problem(
        sizes=draw(st.lists(st.integers(1, 1000), min_size=borders, max_size=borders)),
        times={node: {part: draw(SECONDS) for part in parts if draw(st.integers(0, 9))} for node in nodes},
        links={
            (one, two): Link(draw(st.floats(10, 10_000)), draw(st.floats(0, 2)))
            for one, two in permutations(nodes, 2)
            if draw(st.integers(0, 9))
        },
        origin=draw(st.sampled_from([None, *nodes])),
    )


def everything(problem: Problem) -> Iterator[tuple[float, float]]:
    """Latency and throughput of every order of nodes with every choice of cuts that can run, by plain arithmetic."""
    end = len(problem.sizes) - 1
    for length in range(1, end + 1):
        for order in permutations(problem.times, length):
            for cuts in combinations(range(1, end), length - 1):
                borders = [0, *cuts, end]
                hops = [(one, two, cut) for one, two, cut in zip(order, order[1:], cuts, strict=False)]
                if problem.origin is not None:
                    hops = [(problem.origin, order[0], 0), *hops, (order[-1], problem.origin, end)]
                try:
                    computing = [
                        problem.times[node][borders[n], borders[n + 1]] for n, node in enumerate(order)
                    ]
                    used = [
                        (problem.links[one, two], problem.sizes[cut]) for one, two, cut in hops if one != two
                    ]
                except KeyError:
                    continue
                sending = [size / link.bytes_per_s for link, size in used]
                latency = sum(computing) + sum(sending) + sum(link.latency_s for link, _ in used)
                yield latency, 1 / max(computing + sending)


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


def three_nodes(uplink: float) -> Problem:
    """A slow device, an edge ten times as fast and a cloud a hundred times; 1 s of work in two halves."""
    work = {(0, 1): 0.5, (1, 2): 0.5, (0, 2): 1.0}
    return Problem(
        sizes=[1000, 100, 10],
        times={
            "ue": work,
            "edge": {part: seconds / 10 for part, seconds in work.items()},
            "cloud": {part: seconds / 100 for part, seconds in work.items()},
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


def test_eight_nodes_and_ten_cuts() -> None:
    """The largest problem that is taken is solved in seconds, one node more is refused."""
    parts = list(combinations(range(12), 2))

    def size_of(count: int) -> Problem:
        nodes = "abcdefghi"[:count]
        times = {
            node: {part: (part[1] - part[0]) / (3 + n) for part in parts} for n, node in enumerate(nodes)
        }
        links = {pair: Link(100.0, 0.1) for pair in permutations(nodes, 2)}
        return Problem([100 - 7 * n for n in range(12)], times, links, origin="a")

    began = time.monotonic()
    found = plan(size_of(8), Objective.THROUGHPUT)
    assert time.monotonic() - began < 20
    assert math.isfinite(found.latency_s)
    assert len(found.stages) > 1
    with pytest.raises(ValueError, match="at most 8"):
        plan(size_of(9))

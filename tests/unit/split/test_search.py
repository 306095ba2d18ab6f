"""The best plan with few measurements: the same as if every part had been measured."""

import asyncio
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimle_server.split.planner import Array, Link, NoPlan, Objective, Plan, Problem, Stage, plan
from aimle_server.split.search import Known, least_times, seek


class Bench:
    """Nodes that take so long for each part; counts what is measured.

    Args:
        work: of each piece between two borders, in seconds on a node of speed 1.
        speeds: by node.
        exponent: below 1, the larger a part is the less it takes for each of its pieces.
    """

    def __init__(self, work: list[float], speeds: dict[str, float], exponent: float = 1.0) -> None:
        self.borders = len(work) + 1
        self.parts = list(combinations(range(self.borders), 2))
        self.times = {node: self._times(np.array(work) / speed, exponent) for node, speed in speeds.items()}
        self.measured = 0

    def _times(self, work: Array, exponent: float) -> Array:
        times = np.full((self.borders, self.borders), np.inf)
        for first, last in self.parts:
            times[first, last] = 0.001 + work[first:last].sum() ** exponent
        return times

    def seek(self, problem: Problem, objective: Objective) -> float:
        """What the found plan is worth."""
        whole = (0, self.borders - 1)
        known: Known = {node: {whole: times[whole]} for node, times in self.times.items()}

        async def measure(stage: Stage) -> None:
            part = (stage.first_cut, stage.last_cut)
            assert part not in known[stage.node]
            known[stage.node][part] = float(self.times[stage.node][part])
            self.measured += 1

        return worth(asyncio.run(seek(problem, objective, known, measure)), objective)


def worth(found: Plan, objective: Objective) -> float:
    """The number that the objective is about."""
    return found.latency_s if objective is Objective.LATENCY else found.throughput_per_s


def a_chain(links: dict[tuple[str, str], Link]) -> dict[tuple[str, str], Link]:
    """Each link in both directions."""
    return links | {(two, one): link for (one, two), link in links.items()}


@st.composite
def sites(draw: st.DrawFn) -> tuple[Bench, Problem]:
    """Up to four nodes of different speed, up to six cuts, links as they come."""
    nodes = "abcd"[: draw(st.integers(1, 4))]
    work = draw(st.lists(st.floats(0, 1), min_size=1, max_size=7))
    bench = Bench(work, {node: draw(st.floats(0.1, 10)) for node in nodes}, draw(st.floats(0.5, 1)))
    sizes = draw(st.lists(st.integers(1, 1000), min_size=bench.borders, max_size=bench.borders))
    links = {
        pair: Link(draw(st.floats(100, 100_000)), draw(st.floats(0, 0.1))) for pair in permutations(nodes, 2)
    }
    origin = draw(st.sampled_from([None, *nodes]))
    return bench, Problem(sizes, bench.times, links, origin)


@pytest.mark.parametrize("objective", Objective)
@settings(max_examples=100, deadline=None)
@given(site=sites())
def test_as_good_as_if_all_were_measured(objective: Objective, site: tuple[Bench, Problem]) -> None:
    """Of nodes for which the two rules hold the plan is the optimum over all cuts, and all of it was measured."""
    bench, problem = site
    assert bench.seek(problem, objective) == pytest.approx(worth(plan(problem, objective), objective))


@pytest.mark.parametrize("objective", Objective)
def test_few_parts_are_measured(objective: Objective) -> None:
    """A hundred cuts between a device, an edge node and a cloud: of 15,453 parts not even one in fifty is measured."""
    rng = np.random.default_rng(0)
    bench = Bench(rng.exponential(0.002, 101).tolist(), {"ue": 0.1, "edge": 1.0, "cloud": 10.0})
    links = {
        ("ue", "edge"): Link(2e6, 0.002),
        ("edge", "cloud"): Link(1e7, 0.004),
        ("ue", "cloud"): Link(5e5, 0.02),
    }
    sizes = (rng.uniform(0.3, 1, 102) * np.geomspace(600_000, 40_000, 102)).astype(int).tolist()
    problem = Problem(sizes, bench.times, a_chain(links), "ue")
    found = bench.seek(problem, objective)
    assert 3 * len(bench.parts) == 15_453
    assert bench.measured < 300
    assert found == pytest.approx(worth(plan(problem, objective), objective))


def test_the_best_is_measured_twice() -> None:
    """What looks best because it was measured too low is not chosen, if the plan is to be confirmed."""
    bench = Bench([1.0, 1.0], {"a": 1.0, "b": 0.9})
    problem = Problem([1, 1, 1], {}, {})
    lucky: Known = {"a": {(0, 2): 2.001}, "b": {(0, 2): 1.5}}

    async def measure(stage: Stage) -> None:
        part = (stage.first_cut, stage.last_cut)
        lucky[stage.node][part] = float(bench.times[stage.node][part])

    found = asyncio.run(seek(problem, Objective.LATENCY, lucky, measure, confirm=True))
    assert found.stages == (Stage("a", 0, 2),)
    assert found.latency_s == pytest.approx(2.001)


def test_a_part_that_does_not_run_says_nothing_of_others() -> None:
    """One that a node refuses, for what goes in or comes out of it, may be part of one that runs."""
    times = least_times({(0, 3): 1.0, (1, 2): None}, 4)
    assert times[1, 2] == np.inf
    assert times[0, 3] == 1.0
    assert times[0, 2] == times[1, 3] == 0.0


def test_what_is_known_bounds_what_is_not() -> None:
    """A part takes no less than one within it, and no less than what is left of a longer one."""
    times = least_times({(0, 4): 10.0, (2, 4): 3.0, (0, 1): 2.0}, 5)
    assert times[0, 2] == 7.0  # of 10, all but 3
    assert times[1, 4] == 8.0  # of 10, all but 2
    assert times[0, 3] == 7.0  # (0, 2) is within it
    assert times[2, 3] == 0.0


def test_nobody_answers() -> None:
    """Nodes that turn out to be gone are left out; without any there is no plan."""

    async def measure(stage: Stage) -> None:
        del known[stage.node]

    known: Known = {"a": {}, "b": {}}
    links = {pair: Link(1e6, 0.0) for pair in permutations("ab", 2)}
    with pytest.raises(NoPlan):
        asyncio.run(seek(Problem([1, 1], {}, links), Objective.LATENCY, known, measure))
    assert not known

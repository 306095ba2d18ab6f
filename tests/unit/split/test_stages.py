"""Which part is of which stage, and who may run it: as looking at each piece of it says."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from aimle_server.split.aim import Aim
from aimle_server.split.stages import Stages

Workers = list[list[str]]


@st.composite
def sites(draw: st.DrawFn) -> tuple[list[int], Workers]:
    """Where up to four stages begin and end, and who may run them."""
    lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    limits = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    return limits, [draw(st.lists(st.sampled_from("abc"), unique=True)) for _ in lengths]


def stages_of(part: tuple[int, int], limits: Sequence[int]) -> list[int]:
    """The stage of each piece of a part, each once."""
    ends = list(pairwise(limits))
    return sorted(
        {number for piece in range(*part) for number, (begin, end) in enumerate(ends) if begin <= piece < end}
    )


@given(sites())
def test_a_node_runs_what_its_stages_have(site: tuple[list[int], Workers]) -> None:
    """A part is allowed to a node that is in all stages of it, and to no other; its largest part is one of those."""
    limits, workers = site
    stages = Stages(limits, workers)
    parts = list(combinations(range(limits[-1] + 1), 2))
    for part in parts:
        assert list(stages.of(*part)) == stages_of(part, limits)
    for node in "abc":
        allowed = [
            part for part in parts if all(node in workers[number] for number in stages_of(part, limits))
        ]
        assert stages.may_work(node) is bool(allowed)
        if allowed:
            assert [part for part in parts if stages.allowed[node][part]] == allowed
            sizes = [last - first for first, last in allowed]
            assert stages.largest(node) == allowed[sizes.index(max(sizes))]


def test_without_workers_all_run_all() -> None:
    """Nobody is named, so nobody is left out."""
    stages = Stages([0, 2, 5], None)
    assert stages.allowed == {}
    assert stages.may_work("anybody")
    assert stages.largest("anybody") == (0, 5)


def test_a_fixed_order_over_stages() -> None:
    """A node that ends a stage and begins the next one runs once; one that comes back later is there twice."""
    assert Aim(workers=[["a", "b"], ["b", "c"]], in_order=True).order == ["a", "b", "c"]
    assert Aim(workers=[["a", "b"], ["b", "a"]], in_order=True).order == ["a", "b", "a"]
    assert Aim(workers=[["a", "b"]]).order is None

"""Nodes are assigned to stages whenever that is possible at all."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from aimle_server.procedures.split_filters import assign


@given(st.lists(st.lists(st.sampled_from("abcd"), unique=True), max_size=4))
def test_assignment(suitable: list[list[str]]) -> None:
    """There is one if, and only if, trying all choices finds one; it gives each place a name of its own that suits."""
    possible = any(len(set(choice)) == len(suitable) for choice in product(*suitable))
    chosen = assign(suitable)
    assert (chosen is not None) is possible
    if chosen is not None:
        assert len(set(chosen)) == len(suitable)
        assert all(name in names for name, names in zip(chosen, suitable, strict=True))

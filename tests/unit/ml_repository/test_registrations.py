"""How a search goes round the ring on which clients stand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_repository.registrations import BATCH, FEWEST, FIRST_PIECE, PLACES, next_piece, place

places = st.integers(0, PLACES - 1)


def pieces(begin: int, standing: list[int], wanted: int) -> list[tuple[int, int]]:
    """The pieces that a search reads if clients stand at these places and it never has enough."""
    covered, found, read = 0, 0, []
    while covered < PLACES:
        start, end = next_piece(begin, covered, found, wanted)
        found += sum(start <= stands < end for stands in standing)
        covered += end - start
        read.append((start, end))
    return read


@given(places, st.lists(places, max_size=500), st.integers(1, 1000))
def test_each_place_is_read_once(begin: int, standing: list[int], wanted: int) -> None:
    """Wherever a search begins and whoever stands on the ring, it goes round it exactly once."""
    read = pieces(begin, standing, wanted)
    assert read[0][0] == begin
    assert read[-1][1] in {begin, PLACES}
    assert all(0 <= start < end <= PLACES for start, end in read)
    assert all(following == end % PLACES for (_, end), (following, _) in pairwise(read))
    assert sum(end - start for start, end in read) == PLACES


@pytest.mark.parametrize(
    ("covered", "found", "wanted", "length"),
    [
        (0, 0, 40, FIRST_PIECE),
        (1000, 0, 40, 50_000),
        (1000, 1, 40, 50_000),
        (1000, 20, 40, 2500),
        (1000, 80, 40, 1250),
        (1000, 5 * BATCH, 40, 250),
        (1000, 5 * BATCH, 8 * BATCH, 2000),
        (1000, 1, 1, 1250 * FEWEST),
        (1000, 2000 * BATCH, 40, 1),
        (PLACES - 10, 1, 40, 10),
    ],
)
def test_a_piece_is_as_long_as_it_takes(covered: int, found: int, wanted: int, length: int) -> None:
    """At the density so far it has a quarter more than are wanted, or than are usual, and never a place twice."""
    start, end = next_piece(0, covered, found, wanted)
    assert end - start == length


def test_clients_stand_everywhere() -> None:
    """Each tenth of the ring has its share of clients, though their names differ little."""
    shares = [0] * 10
    for number in range(1000):
        shares[place(f"ue-{number}") * 10 // PLACES] += 1
    assert min(shares) > 70
    assert place("ue-1") == place("ue-1")

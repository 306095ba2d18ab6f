"""How the benchmarks compare two sides; their figures are nobody's promise."""

from benchmarks.measure import Figures, Row, Target, alternate, percentile


async def test_sides_take_turns_in_changing_order() -> None:
    """Neither side always has the machine that the other has warmed up, and pairs stay pairs."""
    order = []

    async def ours() -> Figures:
        order.append("ours")
        return {"n": len(order)}

    async def other() -> Figures:
        order.append("other")
        return {"n": len(order)}

    mine, theirs = await alternate(ours, other, 3)
    assert order == ["ours", "other", "other", "ours", "ours", "other"]
    assert [figure["n"] for figure in mine] == [1, 4, 5]
    assert [figure["n"] for figure in theirs] == [2, 3, 6]


def test_a_ratio_is_of_a_pair_and_the_median_is_judged() -> None:
    """One slow repetition does not make a target missed."""
    row = Row("g", "what", "s", [1.0, 9.0, 2.0], "other", [10.0, 10.0, 10.0], Target(0.25))
    assert row.ratios == [0.1, 0.9, 0.2]
    assert row.verdict == "reached"


def test_without_another_side_our_figure_is_judged() -> None:
    """A target in seconds is for our own seconds; no target is no verdict."""
    assert Row("g", "what", "s", [0.5, 2.0, 3.0], target=Target(1)).verdict == "missed"
    assert Row("g", "what", "1/s", [0.5], target=Target(0.4, at_least=True)).verdict == "reached"
    assert Row("g", "what", "s", [0.5]).verdict == ""


def test_percentile_is_one_of_the_values() -> None:
    """Also at the ends."""
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7

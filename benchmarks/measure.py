"""Two sides measured in turn, and what becomes of the figures: medians, spreads and ratios."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]
"""What one measurement found, by name."""

Measurement = Callable[[], Awaitable[Figures]]


@dataclass(frozen=True)
class Scale:
    """How large the measurements are.

    Attributes:
        repetitions: measurements of each side.
        quick: small sizes, to see that everything works; the figures mean little.
        peer: the script of the only peer to compare rounds with; empty: all of them.
    """

    repetitions: int = 5
    quick: bool = False
    peer: str = ""

    def size(self, full: int, quick: int) -> int:
        """The full size, or the quick one."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Target:
    """What a ratio (or, without another side, a figure) is to be.

    Attributes:
        value: the bound.
        at_least: whether it is the least; otherwise it is the most.
    """

    value: float
    at_least: bool = False

    def reached(self, figure: float) -> bool:
        """Whether a figure is within the bound."""
        return figure >= self.value if self.at_least else figure <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:.3g}"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        group: the benchmark that it belongs to.
        what: what was measured.
        unit: of both sides.
        ours: our figures, one per repetition.
        other: whom they are compared with; empty: with nobody.
        others: their figures, in the same order.
        target: for the ratio, or for our figure where there is no other side; None: for information.
    """

    group: str
    what: str
    unit: str
    ours: Sequence[float]
    other: str = ""
    others: Sequence[float] = ()
    target: Target | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours divided by theirs, pair by pair; empty without another side."""
        pairs = zip(self.ours, self.others, strict=True) if self.others else ()
        return [mine / theirs for mine, theirs in pairs]

    @property
    def verdict(self) -> str:
        """`reached`, `missed`, or nothing where there is no target."""
        if self.target is None:
            return ""
        figure = statistics.median(self.ratios or self.ours)
        return "reached" if self.target.reached(figure) else "missed"


async def alternate(
    ours: Measurement, other: Measurement, repetitions: int
) -> tuple[list[Figures], list[Figures]]:
    """Measure both sides so often, in turn; who begins changes, so that neither has the warmer machine."""
    mine: list[Figures] = []
    theirs: list[Figures] = []
    for number in range(repetitions):
        sides = [(ours, mine), (other, theirs)]
        for measurement, figures in sides if number % 2 == 0 else reversed(sides):
            figures.append(await measurement())
    return mine, theirs


def column(figures: Sequence[Figures], name: str) -> list[float]:
    """One figure of each measurement."""
    return [figure[name] for figure in figures]


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that is not below `part` (0 to 1) of all of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

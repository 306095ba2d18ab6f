"""What came out, on the terminal."""

import statistics
from collections.abc import Sequence

from benchmarks.measure import Row


def show(rows: Sequence[Row]) -> None:
    """Print the rows of a benchmark."""
    for row in rows:
        print(f"{row.group}: {row.what}", flush=True)
        print(f"    ours {spread(row.ours)} {row.unit}", flush=True)
        if row.others:
            print(f"    {row.other} {spread(row.others)} {row.unit}; ratio {spread(row.ratios)}", flush=True)
        if row.target:
            print(f"    target {row.target}: {row.verdict}", flush=True)


def spread(values: Sequence[float]) -> str:
    """Median, and the least and most."""
    middle = figure(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({figure(min(values))} - {figure(max(values))})"


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

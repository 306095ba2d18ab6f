"""What came out: on the terminal, in RESULTS.md with the machine it came from, and as an SVG for each benchmark."""

import importlib
import os
import platform
import statistics
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from benchmarks.measure import Row, Scale

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
_PACKAGES = ("aiohttp", "uvloop", "marshmallow", "motor", "secantusdb", "numpy", "safetensors")
_HEAD = (
    "| what | unit | ours | compared with | theirs | ratio | target | |\n|---|---|---|---|---|---|---|---|\n"
)


def show(row: Row) -> None:
    """Print one comparison."""
    lines = [f"{row.group}: {row.what}", f"    ours {spread(row.ours)} {row.unit}"]
    if row.others:
        lines.append(f"    {row.other} {spread(row.others)} {row.unit}; ratio {spread(row.ratios)}")
    if row.target:
        lines.append(f"    target {row.target}: {row.verdict}")
    print("\n".join(lines), flush=True)


def write(rows: Sequence[Row], scale: Scale, seconds: float) -> None:
    """Write RESULTS.md and the plots."""
    parts = [
        "# Benchmark results\n",
        f"`make bench` wrote this; it took {seconds / 60:.0f} minutes. Figures are the median (least - most) of"
        f" {scale.repetitions} measurements of each side, taken in turn; ratios are ours divided by theirs, pair"
        " by pair.\n",
        f"{machine()}\n",
    ]
    for group, members in groupby(rows, lambda row: row.group):
        listed = list(members)
        plot(group, listed)
        method = textwrap.dedent(importlib.import_module(f"benchmarks.{group}").__doc__ or "").strip()
        parts.append(f"## {group.capitalize()}\n\n{method}\n\n{_HEAD}{''.join(map(_line, listed))}")
        parts.append(f"![{group}]({group}.svg)\n")
    RESULTS.write_text("\n".join(parts))


def machine() -> str:
    """The machine and the versions of what was measured, as a list."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    peers = ", ".join(path.read_text().splitlines()[0].replace("==", " ") for path in _pins())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().partition("-")[0]
    return "\n".join(
        [
            f"- {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {kernel}",
            f"- Python {platform.python_version()}, {versions}",
            f"- {peers}",
        ]
    )


def plot(group: str, rows: Sequence[Row]) -> None:
    """A bar per row: the ratio, or our figure where there is no other side, with its spread and its target."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = group
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.45 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        values = row.ratios or list(row.ours)
        middle = statistics.median(values)
        error = [[middle - min(values)], [max(values) - middle]]
        color = {"reached": "tab:green", "missed": "tab:red"}.get(row.verdict, "tab:gray")
        axes.barh(place, middle, xerr=error, color=color, height=0.6)
        if row.target:
            axes.plot([row.target.value] * 2, [place - 0.42, place + 0.42], color="black")
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    compared = any(row.others for row in rows)
    axes.set_xlabel(
        "ours / theirs; the black line is the target" if compared else f"{rows[0].unit}; target black"
    )
    if compared:
        axes.axvline(1, color="gray", linewidth=0.5)
    figure.savefig(FOLDER / f"{group}.svg", metadata={"Date": None})
    pyplot.close(figure)


def spread(values: Sequence[float]) -> str:
    """Median, and the least and most."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} - {number(max(values))})"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(row: Row) -> str:
    others, ratios = (spread(values) if row.others else "" for values in (row.others, row.ratios))
    cells = [row.what, row.unit, spread(row.ours), row.other, others, ratios, row.target or "", row.verdict]
    return f"| {' | '.join(map(str, cells))} |\n"


def _label(row: Row) -> str:
    return f"{row.what}, {row.unit}\n{row.other}" if row.other else row.what


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _pins() -> list[Path]:
    return sorted((FOLDER / "peers").glob("*.txt"))

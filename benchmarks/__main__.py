"""`python -m benchmarks [--quick] [--repetitions N] [NAME...]`: measure, print, write RESULTS.md and the plots."""

import argparse
import importlib
import time
from collections.abc import Sequence

import uvloop

from benchmarks import report
from benchmarks.measure import Row, Scale

NAMES = ("aggregation", "intake", "requests", "discovery", "notifications", "startup", "rounds")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="small sizes, once; nothing is written")
    parser.add_argument("--repetitions", type=int, help="measurements of each side (5; with --quick 1)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    scale = Scale(args.repetitions or (1 if args.quick else 5), args.quick)
    began = time.monotonic()
    rows = uvloop.run(_run(args.names or NAMES, scale))
    if not args.names and not args.quick:
        report.write(rows, scale, time.monotonic() - began)


async def _run(names: Sequence[str], scale: Scale) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        found = await importlib.import_module(f"benchmarks.{name}").run(scale)
        report.show(found)
        rows += found
    return rows


if __name__ == "__main__":
    main()

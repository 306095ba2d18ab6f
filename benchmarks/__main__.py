"""`python -m benchmarks [--quick] [--repetitions N] [NAME...]`: measure, print, write RESULTS.md and the plots."""

import argparse
import importlib
import sys
import time
import traceback

import uvloop

from benchmarks import report
from benchmarks.measure import Row, Scale

NAMES = (
    "aggregation",
    "intake",
    "requests",
    "discovery",
    "notifications",
    "startup",
    "reduction",
    "pipelines",
    "rounds",
)


def main() -> int:
    """Run what is asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="small sizes, once; nothing is written")
    parser.add_argument("--repetitions", type=int, help="measurements of each side (5; with --quick 1)")
    parser.add_argument(
        "--peer", default="", help="compare rounds with one only, named as its script in peers/"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    scale = Scale(args.repetitions or (1 if args.quick else 5), args.quick, args.peer)
    began = time.monotonic()
    rows: list[Row] = []
    complete = [uvloop.run(_run(name, scale, rows)) for name in args.names or NAMES]
    if not (args.names or args.quick or args.peer):
        report.write(rows, scale, time.monotonic() - began)
    return 0 if all(complete) else 1


async def _run(name: str, scale: Scale, rows: list[Row]) -> bool:
    """Add the rows of one benchmark; False if it fails, which does not keep the others from running."""
    try:
        async for row in importlib.import_module(f"benchmarks.{name}").run(scale):
            report.show(row)
            rows.append(row)
    except Exception:
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

"""How long discovery takes with 1,000, 10,000 and 100,000 registered clients, one request after the other.

Two questions with 100 clients as the answer: any 100 of a service that all clients work for, and the 100 that hold
a data set. Each number of clients is in a server of its own, and the servers are asked in turn.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

from benchmarks import load
from benchmarks.measure import Figures, Measurement, Row, Scale, Target, column
from benchmarks.population import RARE, populate
from benchmarks.server import SERVICE, Server, criteria, running_server

GROUP = "discovery"
RESULTS = 100


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Medians of the latencies, with the fewest clients as the other side."""
    sizes = (1000, 10_000, 100_000) if not scale.quick else (200, 1000, 2000)
    questions = {"any 100 of a service": criteria(), "the 100 with a data set": criteria(RARE)}
    asked = scale.size(20, 10)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_server()) for _ in sizes]
        for server, size in zip(servers, sizes, strict=True):
            await populate(server, 0, size, rare_every=size // RESULTS)
        for name, wanted in questions.items():
            measurements = [_measurement(server, wanted, asked) for server in servers]
            found = [await _in_turn(measurements) for _ in range(scale.repetitions + 1)][1:]
            columns = list(zip(*found, strict=True))
            for size, figures in list(zip(sizes, columns, strict=True))[1:]:
                last = size == sizes[-1]
                yield Row(
                    GROUP,
                    f"{name}, {size:,} registered",
                    "ms",
                    column(figures, "p50"),
                    f"itself with {sizes[0]:,}",
                    column(columns[0], "p50"),
                    Target(2) if last else None,
                )


async def _in_turn(measurements: list[Measurement]) -> list[Figures]:
    return [await measure() for measure in measurements]


def _measurement(server: Server, wanted: object, count: int) -> Measurement:
    query = f"filt-criteria={quote(json.dumps(wanted))}&cl-number={RESULTS}"
    content = load.request("GET", server.url, f"/aimles-disc/v1/clients?{query}", server.token(SERVICE))

    async def measure() -> Figures:
        return await load.send(server.url, [content] * count, 1)

    return measure

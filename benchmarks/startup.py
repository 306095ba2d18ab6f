"""From a training's request to its first round: ten clients, each a process of its own, and a small model.

Two moments count: when the server has started the first round, and when the last of the clients has the model and
begins to train. All clocks are this machine's.
"""

import asyncio
from collections.abc import AsyncIterator

from benchmarks.measure import Figures, Row, Scale, Target, column
from benchmarks.trainings import Cast, cast

GROUP = "startup"
CLIENTS = 10
VALUES = 10_000


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Seconds."""
    async with cast(CLIENTS, processes=CLIENTS) as company:
        figures = [await _measure(company) for _ in range(scale.repetitions + 1)][1:]
    what = f"request to first round, {CLIENTS} clients"
    yield Row(GROUP, f"{what}: all of them train", "s", column(figures, "trained"), target=Target(1))
    yield Row(GROUP, f"{what}: the server has begun it", "s", column(figures, "begun"))


async def _measure(company: Cast) -> Figures:
    trained = await company.train(VALUES, rounds=1)
    started = trained.status.history[0].started
    assert started is not None
    async with asyncio.timeout(10):
        lines = [await company.lines.get() for _ in range(CLIENTS)]
    last = max(line["at"] for line in lines)
    return {"trained": last - trained.requested, "begun": started.timestamp() - trained.requested}

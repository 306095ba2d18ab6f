"""Writes the loads that this process measures where every process can read them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aimle_server.hfl.load import LoadMeter
from ml_repository.database import tried_again
from ml_repository.loads import Loads
from sbi.clock import Clock

_log = logging.getLogger("aimle.hfl")

INTERVAL = 15.0
"""Seconds between two writes."""


class LoadWriter:
    """Writes what `meter` measures, while somebody wants to know and there is something to write.

    Args:
        wanted: whether there is anybody.
    """

    def __init__(
        self, meter: LoadMeter, loads: Loads, wanted: Callable[[], Awaitable[bool]], clock: Clock
    ) -> None:
        self._meter = meter
        self._loads = loads
        self._wanted = wanted
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what was written counts for a minute still."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL)
            with tried_again(_log, "loads are not written"):
                await self._write()

    async def _write(self) -> None:
        loads = self._meter.loads()
        if loads and await self._wanted():
            await self._loads.write(loads, self._clock.now())

"""Cleans up what has expired. Reading never shows it, so nothing depends on when this runs."""

import asyncio
import logging
from collections.abc import Sequence

from pymongo.errors import PyMongoError

from ml_repository.database import translate
from ml_repository.repository import Repository
from sbi.clock import Clock
from sbi.spool import Spool

_log = logging.getLogger("aimle.janitor")

INTERVAL = 60.0
"""Seconds between two rounds of cleaning."""

UPLOAD_AGE = 24 * 3600.0
"""Seconds for which an unfinished upload is kept, for its sender to go on with it."""


class Janitor:
    """Removes expired registrations, expired models with their bytes, and uploads that nobody goes on with."""

    def __init__(self, repository: Repository, spools: Sequence[Spool], clock: Clock) -> None:
        self._repository = repository
        self._spools = spools
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to clean."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what was begun may stay half done and is done next time."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._remove_expired()
            for spool in self._spools:
                await spool.sweep(UPLOAD_AGE)
            await self._clock.sleep(INTERVAL)

    async def _remove_expired(self) -> None:
        try:
            await self._repository.remove_expired(self._clock.now())
        except PyMongoError as error:
            if translate(error) is None:
                _log.exception("cleaning up failed")
            else:
                _log.warning("the database does not answer; nothing is cleaned up")

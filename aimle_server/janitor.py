"""Cleans up what has expired. Reading never shows it, so nothing depends on when this runs."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime

from aimle_server.hfl.folders import Folders
from ml_repository.database import tried_again
from ml_repository.repository import Repository
from sbi.clock import Clock
from sbi.spool import Spool

_log = logging.getLogger("aimle.janitor")

INTERVAL = 60.0
"""Seconds between two rounds of cleaning."""

UPLOAD_AGE = 24 * 3600.0
"""Seconds for which an unfinished upload is kept, for its sender to go on with it."""

FILES_AGE = 3600.0
"""Seconds for which the files of a training stay that was taken over elsewhere; it may come back."""


class Janitor:
    """Removes expired registrations, FL members, nodes, models with their bytes, and files that nobody needs.

    Args:
        spools: lose the uploads that nobody goes on with.
        folders: go of trainings that ended, or are driven, on another disk.
        lease: seconds that a lease lasts; the folder of a training is touched more often.
    """

    def __init__(
        self,
        repository: Repository,
        spools: Sequence[Spool],
        folders: Folders,
        clock: Clock,
        lease: float,
    ) -> None:
        self._repository = repository
        self._spools = spools
        self._folders = folders
        self._files_age = FILES_AGE + lease
        self._left: set[str] = set()
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
            for clean in (self._repository.remove_expired, self._remove_left_files):
                with tried_again(_log, "not everything is cleaned up"):
                    await clean(self._clock.now())
            for spool in self._spools:
                await spool.sweep(UPLOAD_AGE)
            await self._clock.sleep(INTERVAL)

    async def _remove_left_files(self, now: datetime) -> None:
        """Those of a training that waits for somebody to drive it stay: it may be us.

        What is left must be so twice: a training that was taken over a moment ago is touched a moment later.
        """
        untouched = await self._folders.untouched(self._files_age)
        waiting = await self._repository.trainings.waiting(untouched, now) if untouched else set()
        left = set(untouched) - waiting
        await self._folders.remove(left & self._left)
        self._left = left

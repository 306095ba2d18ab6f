"""The folders on this machine's disk in which trainings have their files; several processes may share them.

Whoever drives a training touches its folder about as often as it renews the lease. One that nobody has touched for
long is in no use here, and the janitor removes it if no process may need it yet.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class Folders:
    """One folder for each training, named by its identifier.

    Args:
        directory: where they are; nothing else may be in it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, training_id: str) -> Path:
        """A training's folder, whether it is there or not."""
        return self._directory / training_id

    async def touch(self, training_ids: Iterable[str]) -> None:
        """Say to all processes that share this disk: these are in use."""
        await asyncio.to_thread(self._touch, list(training_ids))

    def _touch(self, training_ids: list[str]) -> None:
        for training_id in training_ids:
            with suppress(FileNotFoundError):
                os.utime(self.of(training_id))

    async def untouched(self, seconds: float) -> list[str]:
        """The trainings whose folders nobody has touched for so long."""
        return await asyncio.to_thread(self._untouched, time.time() - seconds)

    def _untouched(self, before: float) -> list[str]:
        found = []
        for path in self._directory.glob("*"):
            with suppress(FileNotFoundError):  # its training ended a moment ago
                if path.stat().st_mtime < before:
                    found.append(path.name)
        return found

    async def remove(self, training_ids: Iterable[str]) -> None:
        """Remove folders with everything in them."""
        for training_id in training_ids:
            await asyncio.to_thread(shutil.rmtree, self.of(training_id), ignore_errors=True)

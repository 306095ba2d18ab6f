"""A training in a thread, held from the event loop."""

import asyncio
import threading
from dataclasses import dataclass, field

from aimle_client.runtime.reins import Reins
from aimle_client.trainers.base import FitResult
from aimle_client.trainers.resumable import FitState
from tests.support import eventually


@dataclass
class Long:
    """A fit that must not come to its end; its first step waits until it may."""

    done: int = 0
    total: int = 1000
    may: threading.Event = field(default_factory=threading.Event)

    def step(self) -> None:
        """One more."""
        assert self.may.wait(10)
        self.done += 1

    def result(self) -> FitResult:
        """It has none."""
        raise AssertionError("nobody waits for the end")

    def save_state(self) -> FitState:
        """Where it stands."""
        return FitState({})


async def test_a_training_that_is_closed_is_left() -> None:
    """A thread that is in the middle of a step when it is over takes no other."""
    reins, fit = Reins(), Long()
    running = asyncio.create_task(asyncio.to_thread(reins.run, fit))
    await eventually(lambda: reins.active)
    reins.close()
    fit.may.set()
    async with asyncio.timeout(10):
        assert await running is None
    assert fit.done <= 1


async def test_a_training_that_stands_still_is_left() -> None:
    """So does one that waits for an order: without one its thread, and with it the process, would never end."""
    reins, fit = Reins(), Long()
    running = asyncio.create_task(asyncio.to_thread(reins.run, fit))
    await eventually(lambda: reins.active)
    pausing = asyncio.create_task(reins.pause())
    await asyncio.sleep(0)
    fit.may.set()
    await pausing
    reins.close()
    async with asyncio.timeout(10):
        assert await running is None
    assert fit.done <= 1

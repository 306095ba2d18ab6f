"""A training that a thread takes step by step, held from the event loop: look at it, stop it, give it away."""

import asyncio
import queue
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from aimle_client.errors import NothingToTransfer
from aimle_client.trainers.base import FitResult
from aimle_client.trainers.resumable import Fit, FitState


class _Order(Enum):
    GO_ON = auto()
    LEAVE = auto()


@dataclass(frozen=True)
class _Save:
    """Give the state to `taker`; with `hold`, take no step until the next order."""

    taker: asyncio.Future[FitState]
    hold: bool


class Reins:
    """Of one fit; `run` is called in a thread, everything else on the event loop.

    Attributes:
        done, total: steps taken, and in all; 0 before the first.
        active: whether it is under way: begun, and not ended.
    """

    def __init__(self) -> None:
        self.done = self.total = 0
        self.active = False
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[_Save | _Order] = queue.SimpleQueue()

    def run(self, fit: Fit) -> FitResult | None:
        """Take the steps that are left; None: it was left before the end."""
        self.done, self.total, self.active = fit.done, fit.total, True
        while self._obeyed(fit):
            if fit.done == fit.total:
                return fit.result()
            fit.step()
            self.done = fit.done
        return None

    async def save(self) -> FitState:
        """Its state after the present step; it goes on meanwhile.

        Raises:
            NothingToTransfer: it has ended.
        """
        return await self._save(hold=False)

    async def pause(self) -> FitState:
        """Its state after the present step; it stands still until `go_on` or `leave`.

        Raises:
            NothingToTransfer: it has ended.
        """
        return await self._save(hold=True)

    def go_on(self) -> None:
        """After `pause`: take the next step."""
        self._orders.put(_Order.GO_ON)

    def leave(self) -> None:
        """Take no step any more."""
        self._orders.put(_Order.LEAVE)

    def close(self) -> None:
        """It is over: whoever still waits for a state gets none, and a thread that is not at its end leaves."""
        self.active = False
        with suppress(queue.Empty):
            while True:
                order = self._orders.get_nowait()
                if isinstance(order, _Save) and not order.taker.done():
                    order.taker.set_exception(NothingToTransfer("the training has ended"))
        self.leave()

    async def _save(self, *, hold: bool) -> FitState:
        if not self.active:
            raise NothingToTransfer("no training is under way that could be moved")
        taker: asyncio.Future[FitState] = self._loop.create_future()
        self._orders.put(_Save(taker, hold))
        try:
            return await taker
        except asyncio.CancelledError:
            if hold:
                self.go_on()
            raise

    def _obeyed(self, fit: Fit) -> bool:
        """Do what was ordered; False: it is left."""
        held = False
        while held or not self._orders.empty():
            match self._orders.get():
                case _Order.LEAVE:
                    return False
                case _Order.GO_ON:
                    held = False
                case _Save(taker, hold):
                    held = held or hold
                    self._loop.call_soon_threadsafe(_give, taker, fit.save_state())
        return True


def _give(taker: asyncio.Future[FitState], state: FitState) -> None:
    if not taker.done():
        taker.set_result(state)

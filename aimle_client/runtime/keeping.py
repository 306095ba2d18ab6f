"""What goes on beside a training that can be moved (TS 23.482 8.6): copies of its state, and the policy's say."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

from aimle_client.errors import AimleClientError, NothingToTransfer
from aimle_client.http import Connection
from aimle_client.policy import Policy
from aimle_client.runtime.giving import Giving, Transferred
from aimle_client.runtime.task import Task
from aimle_client.transfer import deliver
from sbi.clock import Clock

_log = logging.getLogger("aimle.client")

ASK_SECONDS = 1.0
"""Seconds between two questions to the policy whether a task is to be handed over."""


class Keeping:
    """Looks after the trainings of one client.

    Attributes:
        tasks: those that are under way.
    """

    def __init__(
        self,
        connection: Connection,
        giving: Giving,
        policy: Policy,
        clock: Clock,
        deposit_every: float | None,
    ) -> None:
        """`deposit_every`: seconds between two copies of the state at the server; None: none are left there."""
        self.tasks: Sequence[Task] = ()
        self._connection = connection
        self._giving = giving
        self._policy = policy
        self._clock = clock
        self._deposit_every = deposit_every

    async def give(
        self,
        dataset: str | None,
        *,
        target: str | None,
        direct: bool,
        validity: timedelta | None,
        reason: str,
    ) -> Transferred:
        """As `AimleClient.transfer`."""
        movable = [task for task in self.tasks if task.reins.active and dataset in (None, task.dataset)]
        if not movable:
            raise NothingToTransfer("no training is under way that could be moved")
        if len(movable) > 1:
            raise NothingToTransfer("several trainings are under way: say the data set of one")
        return await self._giving.give(
            movable[0], target=target, direct=direct, validity=validity, reason=reason
        )

    async def watch(self, task: Task) -> None:
        """Return when there is nothing to do beside this training; else it is cancelled with the training's end."""
        work = []
        if self._deposit_every is not None and task.state_url is not None:
            work.append(self._deposit(task, task.state_url, self._deposit_every))
        if hasattr(self._policy, "hand_over"):
            work.append(self._ask(task))
        try:
            await asyncio.gather(*work)
        except Exception:  # the policy is the application's, and may raise anything
            _log.exception("nobody looks after the training on %s any more", task.dataset)

    async def _deposit(self, task: Task, url: str, seconds: float) -> None:
        while True:
            await self._clock.sleep(seconds)
            if not task.reins.active or task.giving:
                continue
            try:
                state = await task.reins.save()
                await deliver(self._connection.session, url, task.file(state), self._clock)
            except NothingToTransfer:
                continue
            except AimleClientError as error:
                _log.warning("the state on %s could not be left at the server: %s", task.dataset, error)

    async def _ask(self, task: Task) -> None:
        while True:
            await self._clock.sleep(ASK_SECONDS)
            if not task.reins.active or task.giving:
                continue
            reason = await self._policy.hand_over(task)  # type: ignore[attr-defined]
            if not reason:
                continue
            try:
                # Its own task: the training's end, which cancels this one, is a part of the hand-over.
                await asyncio.shield(self._hand_over(task, reason))
            except AimleClientError as error:
                _log.warning("the task on %s stays here: %s", task.dataset, error)

    async def _hand_over(self, task: Task, reason: str) -> None:
        await self._giving.give(task, target=None, direct=True, validity=None, reason=reason)

"""One round of HFL at a client (TS 23.482 8.12.2.1, steps 7 and 8): fetch, evaluate, train, deliver, notify.

Rounds of all subscriptions share one thread for computing, so that two never compete for the device. A round
that is cancelled sends nothing more; what its thread is computing runs to its end and is dropped.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from aimle_client.errors import AimleClientError, UnexpectedAnswer
from aimle_client.http import Connection
from aimle_client.runtime.learning import Learned, Received, learn, received
from aimle_client.runtime.report import Outcome, RoundReport, notification
from aimle_client.runtime.schedule import seconds_until_open
from aimle_client.runtime.subscriptions import Assignment, Report
from aimle_client.trainers.base import Trainer
from aimle_client.transfer import deliver, fetch
from sbi.clock import Clock
from sbi.tensors import InvalidTensors

_log = logging.getLogger("aimle.client")

Listener = Callable[[RoundReport], None]
"""Told of each round when it has ended."""


class Rounds:
    """Does the rounds of one client, and computes them one at a time."""

    def __init__(
        self,
        connection: Connection,
        trainers: Mapping[str, Trainer],
        clock: Clock,
        listeners: list[Listener],
    ) -> None:
        """`trainers` by the identifiers of their data sets."""
        self.connection = connection
        self.trainers = trainers
        self.clock = clock
        self._listeners = listeners
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aimle-trainer")

    async def run(self, task: Assignment, report: Report) -> None:
        """Do one round and report how it went; raises nothing but CancelledError."""
        current = _Round(task, self)
        try:
            if task.schedule is not None:
                await self.clock.sleep(seconds_until_open(task.schedule, self.clock.now()))
            await current.attempt()
            await report(partial(self.notify, task, current.report))
        except asyncio.CancelledError:
            current.report = replace(current.report, outcome=Outcome.DISCARDED)
            raise
        finally:
            self._tell(current.report)

    async def compute(self, trainer: Trainer, model: Received, samples: int) -> Learned:
        """`learn` in the thread of this client, when those before it are done."""
        obsolete = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, learn, trainer, model, samples, obsolete.is_set
            )
        except asyncio.CancelledError:
            obsolete.set()
            raise

    def close(self) -> None:
        """Begin no more computing; what computes now ends in its own time."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def notify(self, task: Assignment, report: RoundReport) -> None:
        """Tell the subscriber how a round went; that nobody takes it is noted in the log."""
        try:
            await self.connection.notify(
                task.notify_url, notification(report, task.service, self.clock.now())
            )
        except AimleClientError as error:
            _log.warning(
                "round %s on %s: nobody took the notification: %s", report.round, task.dataset, error
            )

    def _tell(self, report: RoundReport) -> None:
        _log.info("round %s on %s: %s %s", report.round, report.dataset, report.outcome, report.reason)
        for listener in self._listeners:
            listener(report)


class _Round:
    """One round under way; `report` holds what is known of it so far."""

    def __init__(self, task: Assignment, rounds: Rounds) -> None:
        self.report = RoundReport(task.subscription_id, task.dataset, None, Outcome.FAILED)
        self._task = task
        self._rounds = rounds

    async def attempt(self) -> None:
        """Do the work; whatever fails ends this round only, and stands in its report."""
        try:
            await self._work()
        except (AimleClientError, InvalidTensors) as error:
            self._know(reason=str(error))
        except Exception as error:  # the trainer is the application's, and may raise anything
            _log.exception("round %s on %s failed", self.report.round, self.report.dataset)
            self._know(reason=f"{type(error).__name__}: {error}")

    async def _work(self) -> None:
        model, update_url = await self._fetch()
        self._know(round=model.round)
        trainer = self._rounds.trainers[self._task.dataset]
        learned = await self._rounds.compute(trainer, model, self._task.samples)
        self._know(num_eval_samples=learned.num_eval_samples, metrics=learned.metrics)
        if learned.fit_metrics is None:
            self._know(outcome=Outcome.EVALUATED)
            return
        session, clock = self._rounds.connection.session, self._rounds.clock
        await deliver(session, update_url, learned.update, clock, learned.coding)
        self._know(outcome=Outcome.TRAINED, num_samples=learned.num_samples, fit_metrics=learned.fit_metrics)

    async def _fetch(self) -> tuple[Received, str]:
        """The global model, and where its update goes, which is empty where none is asked for."""
        task = self._task
        content, named = await fetch(self._rounds.connection.session, task.model_url, self._rounds.clock)
        update_url = named or task.update_url
        if update_url is None and task.samples > 0:
            raise UnexpectedAnswer("the server says nowhere where updates go")
        return await asyncio.to_thread(received, content), update_url or ""

    def _know(self, **facts: Any) -> None:
        self.report = replace(self.report, **facts)

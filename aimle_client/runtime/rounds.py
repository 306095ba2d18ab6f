"""One round of HFL at a client (TS 23.482 8.12.2.1, steps 7 and 8): fetch, evaluate, train, deliver, notify.

Rounds of all subscriptions share one thread for computing, so that two never compete for the device. A round
that is cancelled sends nothing more; what its thread is computing runs to its end and is dropped.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from aimle_client.errors import AimleClientError, UnexpectedAnswer
from aimle_client.http import Connection
from aimle_client.runtime.learning import Learned, Received, learn, received
from aimle_client.runtime.reins import Reins
from aimle_client.runtime.report import Outcome, RoundReport, notification
from aimle_client.runtime.schedule import seconds_until_open
from aimle_client.runtime.subscriptions import Assignment, Report
from aimle_client.runtime.takeover import Takeovers
from aimle_client.runtime.task import Task
from aimle_client.trainers.base import Trainer
from aimle_client.trainers.resumable import FitState, is_resumable
from aimle_client.transfer import AGGREGATION, RESUME, STATE, deliver, fetch
from sbi.clock import Clock
from sbi.tensors import InvalidTensors

_log = logging.getLogger("aimle.client")

Listener = Callable[[RoundReport], None]
"""Told of each round when it has ended."""

Watch = Callable[[Task], Coroutine[Any, Any, None]]
"""What goes on beside a training, cancelled with its end."""


class Rounds:
    """Does the rounds of one client, and computes them one at a time."""

    def __init__(
        self,
        connection: Connection,
        trainers: Mapping[str, Trainer],
        clock: Clock,
        listeners: list[Listener],
        takeovers: Takeovers,
        watch: Watch,
    ) -> None:
        """`trainers` by the identifiers of their data sets; `watch` is run beside each training."""
        self.connection = connection
        self.trainers = trainers
        self.clock = clock
        self.takeovers = takeovers
        self.watch = watch
        self.tasks: list[Task] = []
        self._listeners = listeners
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aimle-trainer")

    async def run(self, task: Assignment, report: Report) -> None:
        """Do one round and report how it went; raises nothing but CancelledError."""
        current = _Round(task, self)
        try:
            if task.schedule is not None:
                await self.clock.sleep(seconds_until_open(task.schedule, self.clock.now()))
            await current.attempt()
            if current.report.outcome is not Outcome.TRANSFERRED:
                await report(partial(self.notify, task, current.report))
        except asyncio.CancelledError:
            outcome = Outcome.TRANSFERRED if current.is_given else Outcome.DISCARDED
            current.report = replace(current.report, outcome=outcome)
            raise
        finally:
            self._tell(current.report)

    async def compute(
        self, trainer: Trainer, model: Received, samples: int, task: Task, state: FitState | None
    ) -> Learned:
        """`learn` in the thread of this client, when those before it are done."""
        obsolete = threading.Event()
        self.tasks.append(task)
        watching = asyncio.create_task(self.watch(task)) if is_resumable(trainer) else None
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, learn, trainer, model, samples, obsolete.is_set, task.reins, state
            )
        except asyncio.CancelledError:
            obsolete.set()
            raise
        finally:
            if watching is not None:
                watching.cancel()
            self.tasks.remove(task)
            task.reins.close()

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
        self._own: Task | None = None

    @property
    def is_given(self) -> bool:
        """Whether its training is another client's, or is being handed over."""
        return self._own is not None and self._own.giving

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
        model, links = await self._fetch()
        self._know(round=model.round)
        update_url = links.get(AGGREGATION) or self._task.update_url
        if update_url is None and self._task.samples > 0:
            raise UnexpectedAnswer("the server says nowhere where updates go")
        learned = await self._learn(model, links)
        self._know(num_eval_samples=learned.num_eval_samples, metrics=learned.metrics)
        if self.is_given:
            self._know(outcome=Outcome.TRANSFERRED)
        elif learned.fit_metrics is None:
            self._know(outcome=Outcome.EVALUATED)
        else:
            session, clock = self._rounds.connection.session, self._rounds.clock
            await deliver(session, update_url or "", learned.update, clock, learned.coding)
            self._know(
                outcome=Outcome.TRAINED, num_samples=learned.num_samples, fit_metrics=learned.fit_metrics
            )

    async def _learn(self, model: Received, links: Mapping[str, str]) -> Learned:
        clock, asked = self._rounds.clock, self._task
        state = await self._state(model, links)
        self._own = Task(asked.dataset, asked.service, model.metadata, links.get(STATE), clock.now(), Reins())
        trainer = self._rounds.trainers[asked.dataset]
        return await self._rounds.compute(trainer, model, asked.samples, self._own, state)

    async def _state(self, model: Received, links: Mapping[str, str]) -> FitState | None:
        """Where another client, or this one in an earlier attempt, has left this training; None: at its beginning."""
        state = self._rounds.takeovers.take(model.metadata)
        trainer = self._rounds.trainers[self._task.dataset]
        if state is not None or RESUME not in links or not is_resumable(trainer):
            return state
        fetched = await fetch(self._rounds.connection.session, links[RESUME], self._rounds.clock)
        return (await asyncio.to_thread(FitState.load, fetched.content))[0]

    async def _fetch(self) -> tuple[Received, Mapping[str, str]]:
        """The global model, and the addresses that belong to it."""
        fetched = await fetch(self._rounds.connection.session, self._task.model_url, self._rounds.clock)
        return await asyncio.to_thread(received, fetched.content), fetched.links

    def _know(self, **facts: Any) -> None:
        self.report = replace(self.report, **facts)

"""Drives one training: events in, compare-and-set, then effects (TS 23.482 8.12.2.1).

A driver is an inbox and a loop. Each event goes through `machine.advance`; what must survive a crash is written
with its notifications before any effect runs, and every effect may run twice. Reports change only memory: a
round costs the database a few writes, however many clients take part.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from pymongo.errors import PyMongoError

from aimle_server.hfl import events
from aimle_server.hfl.asking import RoundAsker
from aimle_server.hfl.load import LoadMeter
from aimle_server.hfl.machine import advance
from aimle_server.hfl.members import MemberSelection, NotEnoughMembers
from aimle_server.hfl.results import Results
from aimle_server.hfl.round_files import RoundFiles
from aimle_server.hfl.task_mover import TaskMover
from aimle_server.hfl.training import SETTLED, Participant, State, Training
from aimle_server.metrics import TRANSITIONS
from aimle_server.notifications.dispatcher import Dispatcher
from ml_repository.database import translate
from ml_repository.outbox import Message
from ml_repository.trainings import Holder, LeaseLost, Trainings
from sbi import disk
from sbi.clock import Clock
from sbi.errors import AimleError, Unavailable

_log = logging.getLogger("aimle.hfl")

LOOK_PAUSE = 5.0
"""Seconds between two looks at the members while a round runs: each reads all of them."""

DATABASE_PAUSE = 1.0
"""Seconds between attempts at what needs a database that does not answer."""

NOTE_PAUSE = 0.1
"""Seconds after which a granted subscription is written, with all that were granted meanwhile."""

HANDING_OVER = 1.0
"""Seconds that clients have, when a driver is stopped, to grant what they are being asked for."""

DISK_PAUSE = 5.0
"""Seconds between attempts at what needs room on a disk that is full: each may write much until it fails."""

LOOK_SECONDS = 5.0
"""Seconds between two looks at whether the owners of tasks are still there."""

Work = Callable[[], Awaitable[None]]
"""What is behind an effect; it may be done twice."""


@dataclass(frozen=True)
class Tools:
    """What the drivers of one process share.

    Attributes:
        holder: this process, as the leases name it and the others reach it.
        trainings, dispatcher: the store, and who delivers what is written to the outbox with it.
        members, asker, files, results, mover: the work behind the effects.
        meter: measures who is busy with rounds.
    """

    holder: Holder
    clock: Clock
    trainings: Trainings
    dispatcher: Dispatcher
    members: MemberSelection
    asker: RoundAsker
    files: RoundFiles
    results: Results
    meter: LoadMeter
    mover: TaskMover


class Driver:
    """One training in this process, while this process holds its lease.

    Attributes:
        training: as it stands.
        clients: participant's key -> its client id.
        updates: participant's key -> (round, number of samples) of its latest update on disk.
        uploading: participant's key -> round of the update that it began to send last.
    """

    def __init__(self, training: Training, tools: Tools) -> None:
        self.training = training
        self.clients = _by_key(training)
        self.updates: dict[str, tuple[int, int]] = {}
        self.uploading: dict[str, int] = {}
        self._tools = tools
        self._inbox: asyncio.Queue[tuple[events.Event, asyncio.Event]] = asyncio.Queue()
        self._unwritten = False
        self._stopped_then: tuple[str, ...] | None = None  # when participants were chosen here last
        self._looked: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._latest: dict[str, asyncio.Task[None]] = {}
        self.put(events.Resumed())

    def put(self, event: events.Event) -> None:
        """Let something happen to the training, soon."""
        self._inbox.put_nowait((event, asyncio.Event()))

    async def settle(self, event: events.Event) -> None:
        """Let something happen to the training, and return once it has and is written."""
        handled = asyncio.Event()
        self._inbox.put_nowait((event, handled))
        await handled.wait()

    def look(self) -> None:
        """Something concerns the members: see to the next round's while one runs. Before a round it is done anyway."""
        training = self.training
        running = training.state in (State.ROUND_RUNNING, State.AGGREGATING) and training.finish is None
        moment = self._tools.clock.monotonic()
        lately = self._looked is not None and moment - self._looked < LOOK_PAUSE
        if running and not training.evaluating_only and not lately and not self._is_going_on("look"):
            self._looked = moment
            self._spawn(self._prepare, "look")

    async def run(self) -> None:
        """Return when the training has ended and its clients are told, or another server has taken it over.

        When cancelled, leave in the database what whoever goes on needs.
        """
        try:
            await self._take()
            while not self.training.terminal:
                await self._take()
            # Among them is work that the end has cancelled, which must not end the rest.
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._guard(self._close)
        except LeaseLost:
            _log.warning("training %s is driven elsewhere now", self.training.training_id)
        except asyncio.CancelledError:
            await self._hand_over()
            raise
        finally:
            self._tools.meter.over(self.training.training_id)
            self._cancel_tasks()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self) -> None:
        event, handled = await self._inbox.get()
        await self._handle(event)
        handled.set()

    async def _hand_over(self) -> None:
        """Write the subscriptions of this round: whoever goes on would make others beside them."""
        if asking := self._latest.get("ask"):
            await asyncio.wait([asking], timeout=HANDING_OVER)
        while not self._inbox.empty():
            event, _ = self._inbox.get_nowait()
            if isinstance(event, events.Subscribed):
                self.training = advance(self.training, event, self._tools.clock.now()).training
                self._unwritten = True
        if self._unwritten:
            with contextlib.suppress(LeaseLost):
                await self._save(replace(self.training, version=self.training.version + 1), [])

    async def _close(self) -> None:
        record = partial(self._tools.results.record, self.training)
        await self._tools.trainings.close(self._tools.holder.name, self.training.training_id, record)

    async def _handle(self, event: events.Event) -> None:
        if isinstance(event, events.NoteDue) and self._unwritten:
            await self._commit(self.training, ())
        step = advance(self.training, event, self._tools.clock.now())
        if step.training is self.training and not step.effects:
            return
        if _durable(step.training) != _durable(self.training):
            await self._commit(step.training, step.effects)
        else:
            self.training = step.training
        if isinstance(event, events.Subscribed) and not self._unwritten:
            self._unwritten = True
            self._spawn(self._note, "note")
        self._measure(event)
        if self.training.terminal:
            self._cancel_tasks()
        for effect in step.effects:
            self._run(effect)

    def _measure(self, event: events.Event) -> None:
        """Note who is not busy with the round any more."""
        training, meter = self.training, self._tools.meter
        if training.state is not State.ROUND_RUNNING:
            meter.over(training.training_id)
        elif isinstance(event, events.Reported | events.Errored):
            participant = training.participants.get(event.client_id)
            if participant and participant.state in SETTLED:
                meter.done(training.training_id, [event.client_id])

    async def _commit(self, training: Training, effects: tuple[events.Effect, ...]) -> None:
        """Write the training and its notifications; without a database, wait for it.

        Raises:
            LeaseLost: somebody else drives it; nothing was written.
        """
        training = replace(training, version=self.training.version + 1)
        messages = [_message(training, effect) for effect in effects if isinstance(effect, events.Notify)]
        while not await self._save(training, messages):
            await self._tools.clock.sleep(DATABASE_PAUSE)
        if training.state is not self.training.state:
            TRANSITIONS.labels(training.state.value).inc()
            _log.info("training %s round %d: %s", training.training_id, training.round, training.state)
        self.training = training
        self.clients = _by_key(training)
        self._unwritten = False
        if messages:
            self._tools.dispatcher.wake()

    async def _save(self, training: Training, messages: list[Message]) -> bool:
        """Whether the database took it; False where it does not answer."""
        try:
            await self._tools.trainings.save(
                training.to_document(),
                self.training.version,
                self._tools.holder.name,
                messages,
            )
        except PyMongoError as error:
            if translate(error) is None:
                raise
            _log.warning("training %s waits for the database", training.training_id)
            return False
        return True

    def _run(self, effect: events.Effect) -> None:
        """Start the work behind an effect; what it finds comes back as an event."""
        match effect:
            case events.Select():
                self._spawn(self._select)
            case events.AskRound(participants, beside):
                self._tools.meter.asked(self.training.training_id, _names(participants))
                self._spawn(partial(self._ask, participants), "" if beside else "ask")
                if not beside:
                    self._spawn(self._look_after, "owners")
            case events.Relocate(client_id, reason):
                self._spawn(partial(self._relocate, client_id, reason))
            case events.ArmDeadline(number, at):
                self._spawn(partial(self._wait, number, at), "wait")
            case events.Aggregate(number):
                self._spawn(partial(self._aggregate, number))
            case events.StoreResult(finish):
                self._spawn(partial(self._store, finish.round))
            case events.Withdraw(participants):
                self._tools.meter.done(self.training.training_id, _names(participants))
                self._spawn(partial(self._tools.asker.withdraw, self.training, participants))
            case events.CleanUp():
                self._spawn(partial(self._tools.results.clean_up, self.training))
                self._spawn(partial(self._tools.members.end, self.training))

    def _spawn(self, work: Work, kind: str = "") -> None:
        """Run work beside the loop; of a named kind only the latest goes on."""
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if kind:
            if earlier := self._latest.get(kind):
                earlier.cancel()
            self._latest[kind] = task

    def _is_going_on(self, kind: str) -> bool:
        return kind in self._latest and not self._latest[kind].done()

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _guard(self, work: Work) -> None:
        """Work that breaks fails its training, with a reason for the caller and the rest for the log."""
        try:
            while pause := await self._try(work):
                await self._tools.clock.sleep(pause)
        except AimleError as error:
            self.put(events.Broken(error.detail))
        except LeaseLost:
            self.put(events.Broken("driven elsewhere"))  # which cannot be committed: that ends this driver
        except Exception:
            _log.exception("training %s broke", self.training.training_id)
            self.put(events.Broken("the server failed; the reason is in its log"))

    async def _try(self, work: Work) -> float:
        """Do the work; seconds after which to do it again, 0 where it came to its end."""
        try:
            await work()
        except (PyMongoError, Unavailable) as error:
            if isinstance(error, PyMongoError) and translate(error) is None:
                raise
            _log.warning("training %s waits for the database", self.training.training_id)
            return DATABASE_PAUSE
        except OSError as error:
            if disk.translate(error) is None:
                raise
            _log.error("training %s waits for room on the disk", self.training.training_id)
            return DISK_PAUSE
        return 0.0

    async def _select(self) -> None:
        await self._tools.files.prepare(self.training)
        if self._is_going_on("look"):
            await asyncio.wait([self._latest["look"]])
        training = self.training
        # Whoever drove it before may have died before it saw what happened; where it was stopped, others are free.
        afresh = training.stopped != self._stopped_then
        try:
            participants = await self._tools.members.choose(training, afresh=afresh)
        except NotEnoughMembers as error:
            self.put(events.SelectionFailed(str(error)))
        else:
            self._stopped_then = training.stopped
            self.put(events.Selected(participants))

    async def _prepare(self) -> None:
        await self._tools.members.prepare(self.training)

    async def _ask(self, participants: tuple[Participant, ...]) -> None:
        await self._tools.asker.ask(self.training, participants, self.put)

    async def _look_after(self) -> None:
        """Notice owners of tasks that are gone, or whose hours are over, as long as the round runs."""
        number = self.training.round
        while True:
            await self._tools.clock.sleep(LOOK_SECONDS)
            for client_id, reason in await self._tools.mover.stranded(self.training):
                self.put(events.Stranded(client_id, number, reason))

    async def _relocate(self, client_id: str, reason: str) -> None:
        await self._tools.mover.relocate(self.training, client_id, reason, self._settled)

    async def _settled(self, event: events.Event) -> Training:
        await self.settle(event)
        return self.training

    async def _note(self) -> None:
        await self._tools.clock.sleep(NOTE_PAUSE)
        self.put(events.NoteDue())

    async def _wait(self, number: int, until: datetime) -> None:
        seconds = (until - self._tools.clock.now()).total_seconds()
        # The clock may have been set back while the round was written; from here on it does not matter.
        await self._tools.clock.sleep(min(max(0.0, seconds), self.training.quorum.round_timeout))
        self.put(events.Deadline(number))

    async def _aggregate(self, number: int) -> None:
        training = self.training
        hold = partial(self._tools.trainings.hold, training.training_id, self._tools.holder.name)
        await self._tools.files.aggregate(training, hold)
        self.put(events.Aggregated(number))
        self._spawn(partial(self._tools.files.prune, training))

    async def _store(self, number: int) -> None:
        await self._tools.results.store(self.training, number)
        self.put(events.Stored())


def _by_key(training: Training) -> dict[str, str]:
    return {participant.key: client_id for client_id, participant in training.participants.items()}


def _names(participants: Iterable[Participant]) -> list[str]:
    return [participant.client_id for participant in participants]


def _durable(training: Training) -> tuple[object, ...]:
    """What must be written when it changes; who reported what in a running round may be lost and asked again.

    Subscriptions are written too, but not one by one. Whoever comes or goes changes some of this.
    """
    return (
        training.state,
        training.round,
        training.attempt,
        training.finish,
        training.stopped,
        training.stop,
        training.notified,
        training.moves,
        training.deposits,
    )


def _message(training: Training, effect: events.Notify) -> Message:
    return Message(
        stream=f"training:{training.training_id}",
        sequence=effect.sequence,
        target=training.request["notifUri"],
        body={"trainingID": training.training_id, **effect.body},
    )

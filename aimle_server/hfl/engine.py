"""The trainings that this process drives: takes leases, keeps them, finds participants by their keys.

Any process may drive any training; a lease in the database says which one does. A process that dies lets its
leases run out, and another goes on from the last committed round.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo.errors import PyMongoError

from aimle_server.hfl.driver import Driver, Tools
from aimle_server.hfl.events import Event
from aimle_server.hfl.training import Participant, Training
from ml_repository.database import Session, translate
from sbi.errors import NotFound

_log = logging.getLogger("aimle.hfl")

CLAIM_AT_ONCE = 16
"""Trainings of a dead process that one process takes over in one go."""

STALLED_LEASES = 3
"""A lease too long to be of this time, that has not been renewed for so many leases, is a dead process's."""


@dataclass(frozen=True)
class Seat:
    """A participant's place in a training that runs here."""

    driver: Driver
    client_id: str

    @property
    def training(self) -> Training:
        """The training as it stands now."""
        return self.driver.training

    @property
    def participant(self) -> Participant:
        """The participant as it stands now."""
        return self.training.participants[self.client_id]


class NotDrivenHere(NotFound):
    """This process does not drive the training; perhaps another one does."""


class Engine:
    """Runs trainings in this process.

    Args:
        tools: what the drivers share.
        lease: seconds that a lease lasts; it is renewed three times in that time.
    """

    def __init__(self, tools: Tools, lease: float) -> None:
        self._tools = tools
        self._lease = lease
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._stopped = False
        self._too_long: dict[tuple[str, datetime], float] = {}

    async def start(self) -> None:
        """Begin to take over trainings that nobody drives."""
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Let go of every training, so that another process (or this one's successor) goes on at once.

        One that is begun later is stored and left to the others; who waits for one is no longer kept waiting.
        """
        self._stopped = True
        tasks = [*self._tasks.values(), *([self._keeper] if self._keeper else [])]
        held = list(self._tasks)
        self._drivers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if held:
            await self._release(held)

    async def _release(self, held: Sequence[str]) -> None:
        try:
            await self._tools.trainings.release(self._tools.holder.name, held, self._tools.clock.now())
        except PyMongoError as error:
            if translate(error) is None:
                raise
            _log.warning("the database does not answer; leases run out by themselves")

    async def begin(self, training: Training, reserve: Callable[[Session], Awaitable[None]]) -> None:
        """Store a new training, with the place for its result that `reserve` makes and its selection, and drive it."""
        now = self._tools.clock.now()
        until = self._until(now)

        async def first(session: Session) -> None:
            await reserve(session)
            await self._tools.members.begin(training, now, session)

        await self._tools.trainings.add(training.to_document(), self._tools.holder, until, now, first)
        if self._stopped:
            await self._release([training.training_id])
        else:
            self._drive(training)

    async def tell(self, training_id: str, event: Event) -> bool:
        """Let something happen to a training; True once it has and is written, False if it is not driven here."""
        driver = self._drivers.get(training_id)
        if driver is None:
            return False
        handled = asyncio.create_task(driver.settle(event))
        try:
            await asyncio.wait([handled, self._tasks[training_id]], return_when=asyncio.FIRST_COMPLETED)
            return handled.done()
        finally:
            handled.cancel()

    async def look(self, now: datetime) -> None:
        """Have the members looked at of those trainings whose selection something concerns."""
        trainings = [driver.training for driver in self._drivers.values()]
        for training_id in await self._tools.members.concerned(trainings, now):
            if driver := self._drivers.get(training_id):
                driver.look()

    async def wait(self, training_id: str, seconds: float) -> None:
        """Return when a training that is driven here has ended, or after that many seconds."""
        if task := self._tasks.get(training_id):
            await asyncio.wait([task], timeout=seconds)

    def seat(self, key: str) -> Seat:
        """The participant that the addresses with this key were minted for.

        Raises:
            NotDrivenHere: nobody in a training that runs here has this key.
        """
        for driver in self._drivers.values():
            if client_id := driver.clients.get(key):
                return Seat(driver, client_id)
        raise NotDrivenHere("no participant of a running training has this address")

    def _drive(self, training: Training) -> None:
        driver = Driver(training, self._tools)
        self._drivers[training.training_id] = driver
        task = asyncio.create_task(driver.run())
        self._tasks[training.training_id] = task
        task.add_done_callback(lambda _: self._forget(training.training_id))

    def _forget(self, training_id: str) -> None:
        self._drivers.pop(training_id, None)
        task = self._tasks.pop(training_id, None)
        if task and not task.cancelled() and (error := task.exception()):
            _log.error("training %s: its driver broke", training_id, exc_info=error)

    async def _keep(self) -> None:
        while True:
            try:
                await self._renew_and_claim()
            except Exception as error:
                # Whatever it is: without renewals every training here would be lost to others, or to nobody.
                if isinstance(error, PyMongoError) and translate(error) is not None:
                    _log.warning("the database does not answer; leases are not renewed")
                else:
                    _log.exception("leases are not renewed")
            await self._tools.clock.sleep(self._lease / 3)

    async def _renew_and_claim(self) -> None:
        now = self._tools.clock.now()
        if self._drivers:
            await self._tools.files.folders.touch(self._drivers)
            await self._tools.trainings.renew(self._tools.holder.name, list(self._drivers), self._until(now))
        await self._end_stalled_leases(now)
        claimed = await self._tools.trainings.claim(self._tools.holder, now, self._until(now), CLAIM_AT_ONCE)
        for document in claimed:
            if document["_id"] not in self._drivers:
                _log.info("training %s: taken over in state %s", document["_id"], document["state"])
                training = Training.from_document(document)
                await self._tools.files.forget(training)
                self._drive(training)

    async def _end_stalled_leases(self, now: datetime) -> None:
        """End leases from before the clock was set back, whose processes have died since: they would last for long."""
        leases = await self._tools.trainings.leased_beyond(self._until(now))
        moment = self._tools.clock.monotonic()
        self._too_long = {lease: self._too_long.get(lease, moment) for lease in leases.items()}
        for (training_id, until), since in self._too_long.items():
            if moment - since >= STALLED_LEASES * self._lease:
                _log.warning("training %s: its lease is from another time and ends", training_id)
                await self._tools.trainings.end_lease(training_id, until, now)

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._lease)

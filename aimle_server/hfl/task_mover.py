"""Tasks that change hands by this server's own decision (TS 23.482 8.6.2.4): their owners are gone or do not report.

It needs an intermediate state that the owner has left here; without one there is nothing to go on from.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from aimle_server.hfl.events import Event, HandedOver, Unmoved
from aimle_server.hfl.moving import may_move
from aimle_server.hfl.training import Move, Participant, State, Training
from aimle_server.procedures.matching import candidate_of
from aimle_server.procedures.task_targets import Target, Task, TaskTargets
from aimle_server.procedures.task_transfer import SERVER_CONTROLLED, task_of
from aimle_server.procedures.transfer_window import LENGTH, Window
from ml_repository.registrations import Registrations
from ml_repository.task_transfers import TaskTransfer, TaskTransfers, TransferState
from sbi.clock import Clock

NOBODY = "no AIMLE client can go on with the task"


class TaskMover:
    """Notices owners that will not finish, and finds others."""

    def __init__(
        self,
        registrations: Registrations,
        transfers: TaskTransfers,
        targets: TaskTargets,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._registrations = registrations
        self._transfers = transfers
        self._targets = targets
        self._clock = clock
        self._new_id = new_id

    async def stranded(self, training: Training) -> list[tuple[str, str]]:
        """The owners of tasks that could be moved and that will not finish them; with the reason."""
        owners = _movable(training)
        if not owners:
            return []
        now = self._clock.now()
        found = await self._registrations.by_client_ids(owners, now)
        reasons = {owner: _gone(found.get(owner), now) for owner in owners}
        return [(owner, reason) for owner, reason in reasons.items() if reason]

    async def relocate(
        self,
        training: Training,
        client_id: str,
        reason: str,
        settle: Callable[[Event], Awaitable[Training]],
    ) -> None:
        """Have another client go on with this one's task; `settle` lets that happen and returns what comes of it."""
        transfer = await self._transfers.add(
            TaskTransfer(self._new_id(), "", client_id, training.training_id, self._clock.now()), reason
        )
        target = await self._find(transfer, training, client_id)
        if target is None:
            await settle(Unmoved(client_id, training.round, NOBODY))
            await self._transfers.advance(transfer, TransferState.FAILED, self._clock.now(), NOBODY)
            return
        name, now = target.candidate.client_id, self._clock.now()
        agreed = await self._transfers.advance(
            transfer,
            TransferState.AGREED,
            now,
            f"{name} agreed",
            targets=(name,),
            mode=SERVER_CONTROLLED,
            start=target.window.start,
            stop=target.window.stop,
        )
        assert agreed is not None  # noqa: S101 - nobody else knows it
        event = HandedOver(
            _move(agreed, training, name, reason, now), self.participant(name, target.candidate.uri)
        )
        await close(self._transfers, agreed, await settle(event), self._clock.now())

    def participant(self, client_id: str, uri: str) -> Participant:
        """A client that begins to take part, with addresses of its own."""
        return Participant(client_id=client_id, uri=uri, key=self._new_id(), dataset="")

    async def _find(self, transfer: TaskTransfer, training: Training, client_id: str) -> Target | None:
        task = task_of(Task(transfer.id, {"valUeId": client_id}, client_id), training)
        now = self._clock.now()
        found = await self._targets.find(task, Window(now, now + LENGTH), 1)
        return found[0] if found else None


async def close(transfers: TaskTransfers, transfer: TaskTransfer, training: Training, now: datetime) -> bool:
    """Note what became of a transfer that was agreed on; whether the task has changed hands by it."""
    for move in training.moves:
        if move.transfer_id == transfer.id:
            await transfers.advance(transfer, TransferState.HANDED_OVER, now, taken_by=move.target)
            return True
    reason = "the round was over, or the task had changed hands"
    await transfers.advance(transfer, TransferState.FAILED, now, reason)
    return False


def _move(transfer: TaskTransfer, training: Training, target: str, reason: str, now: datetime) -> Move:
    done = training.participants[transfer.source].deposited or 0
    return Move(
        transfer.id,
        training.round,
        transfer.source,
        target,
        SERVER_CONTROLLED,
        done,
        at=now,
        reason=reason,
    )


def _movable(training: Training) -> Iterable[str]:
    if training.state is not State.ROUND_RUNNING:
        return []
    return [each for each in training.participants if may_move(training, each, training.round)]


def _gone(registration: dict[str, object] | None, now: datetime) -> str:
    """Why the client will not finish; empty: it may."""
    if registration is None:
        return "its registration is over"
    return "" if candidate_of(registration, None, now) else "its hours are over"

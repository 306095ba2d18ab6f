"""AI/ML task transfer (TS 23.482 8.6.2.1, 8.6.2.4; Aimles_AimlTaskTransfer): who goes on with a task, and when.

The requests of the standard do not say which task is meant. Our member `aimle` names the training that it is a part of;
without it the answer is advice, and what the clients make of it is not this server's to know.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aimle_server.hfl.training import Training
from aimle_server.procedures.task_targets import Target, Task, TaskTargets
from aimle_server.procedures.transfer_window import Window, wanted_window
from ml_repository.registrations import Registrations
from ml_repository.task_transfers import TaskTransfer, TaskTransfers, TransferState
from ml_repository.trainings import Trainings
from sbi.auth import Caller
from sbi.clock import Clock, to_wire
from sbi.errors import Forbidden, InvalidRequest, NotFound

Wire = Mapping[str, Any]

MOST_TARGETS = 3
"""Targets in one answer."""

DIRECT, SERVER_CONTROLLED = "DIRECT", "SERVER_CONTROLLED"


class TaskTransferAssistance:
    """Finds targets for the tasks of clients, and keeps a record of each transfer."""

    def __init__(
        self,
        registrations: Registrations,
        trainings: Trainings,
        transfers: TaskTransfers,
        targets: TaskTargets,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._registrations = registrations
        self._trainings = trainings
        self._transfers = transfers
        self._targets = targets
        self._clock = clock
        self._new_id = new_id

    async def assist(self, caller: Caller, body: Wire) -> dict[str, Any]:
        """The AimlesTaskTransferAssistResp: who can go on, when, and by which way.

        Raises:
            InvalidRequest: a time or a number contradicts itself; Forbidden: the requestor is no client of the
            caller's, has no part in the training, or there is nobody that can go on.
        """
        task = await self._task(caller, body)
        transfer, targets = await self._find(caller, task, body, None)
        return {
            "assistanceTime": _window(transfer).to_wire(),
            "targetAimlIds": [dict(target.identity) for target in targets],
            "transferMode": transfer.mode,
            "aimle": _extension(transfer, targets),
        }

    async def control(self, caller: Caller, body: Wire) -> dict[str, Any]:
        """The AimlesControlledTaskTransferResp: when the task may go through this server.

        Raises: as `assist`.
        """
        task = await self._task(caller, body)
        transfer, targets = await self._find(caller, task, body, SERVER_CONTROLLED)
        return {"assistanceTime": _window(transfer).to_wire(), "aimle": _extension(transfer, targets)}

    async def status(self, caller: Caller, transfer_id: str) -> dict[str, Any]:
        """The TransferStatus of the caller's transfer.

        Raises:
            NotFound: there is none, or it is not the caller's.
        """
        transfer = await self._transfers.find(transfer_id)
        if transfer is None or transfer.owner != caller.subject:
            raise NotFound("there is no such transfer")
        return _status(await self._as_it_stands(transfer))

    async def _as_it_stands(self, transfer: TaskTransfer) -> TaskTransfer:
        """With what the training knows, for a process may have died before it wrote that here; and by the clock."""
        if transfer.state is not TransferState.AGREED or transfer.stop is None:
            return transfer
        now = self._clock.now()
        found = await self._trainings.by_id(transfer.training_id) if transfer.training_id else None
        moves = Training.from_document(found).moves if found else ()
        for move in moves:
            if move.transfer_id == transfer.id:
                changed = await self._transfers.advance(
                    transfer, TransferState.HANDED_OVER, move.at, taken_by=move.target
                )
                return changed or transfer
        if transfer.stop <= now:
            changed = await self._transfers.advance(
                transfer, TransferState.EXPIRED, transfer.stop, "its window has passed"
            )
            return changed or transfer
        return transfer

    async def _task(self, caller: Caller, body: Wire) -> Task:
        """What the request is about."""
        requestor = body["requestorId"]
        source = str(requestor.get("valUeId", requestor.get("valUserId")))
        registered = await self._registrations.by_client_ids([source], self._clock.now())
        if source not in registered or registered[source]["_owner"] != caller.subject:
            raise Forbidden("the requestor is not a registered AIMLE client of the caller")
        task = Task(
            self._new_id(),
            requestor,
            source,
            operation=body["aimlTaskType"],
            info=body["aimlInfoType"],
            service=body.get("valServiceId"),
            resource=body.get("aimlRmngTrainReq", {}).get("reqRmngTrainResorce"),
            needed=_needed(body),
        )
        if "aimle" in body:
            task = await self._of_training(task, body["aimle"])
        return task

    async def _of_training(self, task: Task, reference: Wire) -> Task:
        found = await self._trainings.by_id(reference["trainingId"])
        training = Training.from_document(found) if found else None
        if training is None or training.terminal or task.source_id not in training.participants:
            raise Forbidden("the requestor takes no part in such a training", cause="NO_SUCH_TASK")
        known = task_of(task, training)
        return replace(known, target=reference.get("targetId"))

    async def _find(
        self, caller: Caller, task: Task, body: Wire, mode: str | None
    ) -> tuple[TaskTransfer, list[Target]]:
        now = self._clock.now()
        wanted = wanted_window(body, now)
        transfer = await self._transfers.add(
            TaskTransfer(task.transfer_id, caller.subject, task.source_id, task.training_id, now),
            "asked by the source",
        )
        targets = await self._targets.find(task, wanted, MOST_TARGETS if mode is None else 1)
        if not targets:
            reason = "no AIMLE client can go on with the task"
            await self._transfers.advance(transfer, TransferState.FAILED, self._clock.now(), reason)
            raise Forbidden(reason, cause="NO_TARGET")
        if mode is None:
            reachable = body.get("aimle", {}).get("direct", True)
            mode = DIRECT if reachable and targets[0].direct else SERVER_CONTROLLED
        return await self._agree(transfer, targets, mode), targets

    async def _agree(self, transfer: TaskTransfer, targets: list[Target], mode: str) -> TaskTransfer:
        names = tuple(target.candidate.client_id for target in targets)
        agreed = await self._transfers.advance(
            transfer,
            TransferState.AGREED,
            self._clock.now(),
            f"{', '.join(names)} agreed",
            targets=names,
            mode=mode,
            start=max(target.window.start for target in targets),
            stop=min(target.window.stop for target in targets),
        )
        assert agreed is not None  # noqa: S101 - nobody else knows it yet
        return agreed


def task_of(task: Task, training: Training) -> Task:
    """The task with what its training asks of whoever takes it over."""
    return replace(
        task,
        training_id=training.training_id,
        dataset=training.participants[task.source_id].dataset,
        service=training.service_id,
        criteria=training.request.get("memSelCrit"),
        excluded=(*training.participants, *training.stopped),
    )


def _needed(body: Wire) -> timedelta:
    """How long the remaining iterations take, at the pace of those that are done; 0 where that is not said."""
    left: int = body.get("aimlRmngTrainReq", {}).get("reqRmngTrainIterNum", 0)
    done: int = body.get("aimlImdInfo", {}).get("usedTrainIterNum", 0)
    if left < 0:
        raise InvalidRequest.of("/aimlRmngTrainReq/reqRmngTrainIterNum", "is negative")
    if done < 0:
        raise InvalidRequest.of("/aimlImdInfo/usedTrainIterNum", "is negative")
    used = body.get("aimlImdInfo", {}).get("aimlUsedTrainTime")
    if not used or not done:
        return timedelta()
    span = Window.of_wire(used, "/aimlImdInfo/aimlUsedTrainTime")
    try:
        return (span.stop - span.start) * (left / done)
    except OverflowError as error:
        raise InvalidRequest.of("/aimlRmngTrainReq/reqRmngTrainIterNum", "takes too long") from error


def _window(transfer: TaskTransfer) -> Window:
    assert transfer.start is not None  # noqa: S101 - it is agreed on
    assert transfer.stop is not None  # noqa: S101
    return Window(transfer.start, transfer.stop)


def _extension(transfer: TaskTransfer, targets: list[Target]) -> dict[str, Any]:
    """Our part of an answer: the transfer, and where its targets are."""
    where = [{"clientId": each.candidate.client_id, "uri": each.candidate.uri} for each in targets]
    return {"transferId": transfer.id, "transferMode": transfer.mode, "targets": where}


def _status(transfer: TaskTransfer) -> dict[str, Any]:
    status: dict[str, Any] = {
        "transferId": transfer.id,
        "state": transfer.state.value,
        "sourceId": transfer.source,
        "owner": transfer.taken_by or transfer.source,
        "targetIds": list(transfer.targets),
        "history": [
            {"state": entry["state"], "at": to_wire(entry["at"])}
            | ({"reason": entry["reason"]} if entry["reason"] else {})
            for entry in transfer.history
        ],
    }
    if transfer.training_id:
        status["trainingId"] = transfer.training_id
    if transfer.mode:
        status |= {"mode": transfer.mode, "window": _window(transfer).to_wire()}
    return status

"""What the owner of a task does to give it away (TS 23.482 8.6.2.3, 8.6.2.4): leave its state here, hand it over.

The state is stored under the seat that the task has in its round, so whoever has the seat finds it. It is what the
source's trainer says it is; this server reads nothing of it but the number of iterations in the file's metadata.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimle_server.hfl.engine import Engine, Seat
from aimle_server.hfl.events import Deposited, Event, HandedOver
from aimle_server.hfl.reports import LONGEST_REASON, Reports
from aimle_server.hfl.round_files import state_id
from aimle_server.hfl.task_mover import TaskMover, close
from aimle_server.hfl.training import Move
from aimle_server.procedures.matching import candidate_of
from aimle_server.procedures.task_transfer import SERVER_CONTROLLED
from ml_repository.artifacts import Artifact, Artifacts
from ml_repository.registrations import Registrations
from ml_repository.task_transfers import TaskTransfer, TaskTransfers, TransferState
from sbi.clock import Clock
from sbi.errors import Conflict, InvalidRequest, NotFound, Unavailable
from sbi.tensors import InvalidTensors, describe

RETRY_AFTER = 5
"""Seconds after which somebody else should drive the training."""

ITERATIONS = "aimle.iterations"
"""Attribute of a state's metadata: the number of iterations done, in decimal digits."""


class HandingOver:
    """Takes intermediate states and moves seats, for the participants of trainings that are driven here."""

    def __init__(
        self,
        engine: Engine,
        reports: Reports,
        artifacts: Artifacts,
        registrations: Registrations,
        transfers: TaskTransfers,
        mover: TaskMover,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._reports = reports
        self._artifacts = artifacts
        self._registrations = registrations
        self._transfers = transfers
        self._mover = mover
        self._clock = clock

    async def deposit(self, key: str, number: int, uploaded: Path, sha256: str) -> None:
        """Keep a complete upload as the intermediate state of a participant's task; the file stays the caller's.

        Raises:
            InvalidRequest: it is no safetensors file, or does not say how many iterations are done.
            NotFound, Conflict: as `Reports.seat`.
        """
        iterations = await asyncio.to_thread(_iterations, uploaded)
        seat = self._reports.seat(key, number)
        await self._artifacts.put(_name(seat), uploaded, sha256)
        self._reports.seat(key, number)  # storing took its time
        await self._tell(seat, Deposited(seat.client_id, number, iterations))

    async def state(self, key: str, number: int) -> Artifact:
        """The intermediate state of a participant's task.

        Raises:
            NotFound: there is none; and as `Reports.seat`.
        """
        seat = self._reports.seat(key, number)
        found = await self._artifacts.find(_name(seat)) if is_stored(seat) else None
        if found is None:
            raise NotFound("there is no intermediate state of this task")
        return found

    async def hand_over(self, key: str, number: int, body: Mapping[str, Any]) -> None:
        """Put the target of a HandOver in the place of the participant with this key.

        Raises:
            Conflict: its transfer is not open, or has no state to go on from, or the round is over.
            NotFound: nobody has this key; or there is no such transfer of that participant's.
        """
        seat = self._reports.seat(key, number)
        transfer = await self._open(seat, body)
        uri = await self._address(body["targetId"])
        event = HandedOver(
            Move(
                transfer.id,
                number,
                seat.client_id,
                body["targetId"],
                str(transfer.mode),
                body["iterations"],
                at=self._clock.now(),
                reason=body.get("reason", "")[:LONGEST_REASON],
            ),
            self._mover.participant(body["targetId"], uri),
        )
        await self._tell(seat, event)
        if not await close(self._transfers, transfer, seat.training, self._clock.now()):
            raise Conflict("the task cannot change hands any more", cause="ROUND_IS_OVER")

    async def _tell(self, seat: Seat, event: Event) -> None:
        """Let it happen to the seat's training, and return once it is written."""
        if not await self._engine.tell(seat.training.training_id, event):
            raise Unavailable("the training is being taken over", retry_after=RETRY_AFTER)

    async def _open(self, seat: Seat, body: Mapping[str, Any]) -> TaskTransfer:
        """The transfer, if the seat may be given to the target by it now."""
        transfer = await self._transfers.find(body["transferId"])
        if (
            transfer is None
            or (transfer.source, transfer.training_id) != (seat.client_id, seat.training.training_id)
            or body["targetId"] not in transfer.targets
        ):
            raise NotFound("there is no such transfer to this target")
        if transfer.state is not TransferState.AGREED:
            raise Conflict(f"the transfer is {transfer.state}", cause="TRANSFER_IS_OVER")
        await self._check_window(transfer)
        if transfer.mode == SERVER_CONTROLLED and not is_stored(seat):
            raise Conflict("the task's intermediate state is not here", cause="NO_INTERMEDIATE_STATE")
        return transfer

    async def _check_window(self, transfer: TaskTransfer) -> None:
        now = self._clock.now()
        if transfer.start and now < transfer.start:
            raise Conflict("the window of the transfer is not open yet", cause="WINDOW_NOT_OPEN")
        if transfer.stop and now >= transfer.stop:
            reason = "its window has passed"
            await self._transfers.advance(transfer, TransferState.EXPIRED, now, reason)
            raise Conflict("the window of the transfer has passed", cause="WINDOW_IS_OVER")

    async def _address(self, client_id: str) -> str:
        now = self._clock.now()
        found = await self._registrations.by_client_ids([client_id], now)
        candidate = candidate_of(found[client_id], None, now) if client_id in found else None
        if candidate is None:
            raise Conflict("the target is not registered and available any more", cause="TARGET_IS_GONE")
        return candidate.uri


def is_stored(seat: Seat) -> bool:
    """Whether there is an intermediate state of the task."""
    return seat.participant.deposited is not None


def _name(seat: Seat) -> str:
    return state_id(seat.training, seat.participant.own_seat)


def _iterations(path: Path) -> int:
    try:
        text = describe(path).metadata.get(ITERATIONS, "")
    except InvalidTensors as error:
        raise InvalidRequest(f"the state cannot be read: {error}") from error
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InvalidRequest.of(ITERATIONS, "not the number of iterations")
    return int(text)

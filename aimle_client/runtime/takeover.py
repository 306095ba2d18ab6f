"""Tasks of other clients that this one goes on with (TS 23.482 8.6.2.2, 8.6.2.3): asked, agreed, state received.

A task becomes this client's only when the server asks it for the round, as it asks for any other (8.12). A state that
has come before waits for that; one for which no round is asked is forgotten.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aimle_client.policy import Policy
from aimle_client.runtime.task import ROUND, TRAINING
from aimle_client.trainers.base import Trainer
from aimle_client.trainers.resumable import FitState, is_resumable
from sbi.clock import Clock, from_wire
from sbi.errors import Forbidden, InvalidRequest, NotFound

Wire = Mapping[str, Any]

REFUSED = "TASK_REFUSED"
"""Cause of a refusal."""

TRAINING_OPERATION = "MODEL_TRAINING"
VALID = timedelta(minutes=10)
"""How long an agreement lasts whose request names no end, and a state after the end of its agreement."""


@dataclass
class _Agreement:
    source: Any
    dataset: str
    until: datetime
    direct: bool = False


@dataclass(frozen=True)
class _Waiting:
    round: str
    state: FitState
    until: datetime


class Takeovers:
    """What this client has agreed to go on with."""

    def __init__(self, policy: Policy, trainers: Mapping[str, Trainer], clock: Clock) -> None:
        """`trainers` by the identifiers of their data sets."""
        self._policy = policy
        self._trainers = trainers
        self._clock = clock
        self._agreed: dict[str, _Agreement] = {}
        self._waiting: dict[str, _Waiting] = {}

    async def answer(self, request: Wire) -> dict[str, Any]:
        """The AimleClientTaskTransferRes to the server's request.

        Raises:
            Forbidden: the task is not taken.
        """
        until = self._until(request)
        dataset = self._dataset(request)
        await self._ask_policy(request)
        if reference := request.get("aimle"):
            self._agreed[reference["transferId"]] = _Agreement(request["sourceAimlId"], dataset, until)
        answer: dict[str, Any] = {"aimle": {"direct": True}}
        if "aimlTaskTransferTime" in request:
            answer["aimlTaskTransferTime"] = request["aimlTaskTransferTime"]
        return answer

    async def answer_direct(self, request: Wire) -> None:
        """Agree to the source's own request.

        Raises:
            Forbidden: the task is not taken: nobody has agreed to this transfer, its time is over, or the policy is
            against it now.
        """
        self._until(request)
        if reference := request.get("aimle"):
            agreement = self._agreement(reference["transferId"])
            if agreement is None or agreement.source != request["requestorId"]:
                raise Forbidden("this client has not agreed to this transfer", cause=REFUSED)
            await self._ask_policy(request)
            agreement.direct = True
        else:
            self._dataset(request)
            await self._ask_policy(request)

    def check(self, transfer_id: str) -> None:
        """Whether the state of this transfer is awaited.

        Raises:
            NotFound: it is not.
        """
        agreement = self._agreement(transfer_id)
        if agreement is None or not agreement.direct:
            raise NotFound("no state is awaited for such a transfer")

    async def receive(self, transfer_id: str, path: Path) -> None:
        """Keep the state in this file, if the trainer can go on from it.

        Raises:
            InvalidRequest: it cannot; NotFound: the state is not awaited.
        """
        self.check(transfer_id)
        agreement = self._agreed[transfer_id]
        try:
            state, metadata = await asyncio.to_thread(_loaded, path, self._trainers[agreement.dataset])
            training, number = metadata[TRAINING], metadata[ROUND]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"this client cannot go on from that state: {error}") from error
        now = self._clock.now()
        self._waiting = {name: each for name, each in self._waiting.items() if each.until > now}
        self._waiting[training] = _Waiting(number, state, agreement.until + VALID)

    def take(self, metadata: Mapping[str, str]) -> FitState | None:
        """The state that waits for the round of a model with this metadata."""
        waiting = self._waiting.pop(metadata.get(TRAINING, ""), None)
        if waiting is None or waiting.round != metadata.get(ROUND) or waiting.until <= self._clock.now():
            return None
        return waiting.state

    def _until(self, request: Wire) -> datetime:
        """Until when the task may come."""
        now = self._clock.now()
        ends = [
            from_wire(request[name]["stopTime"])
            for name in ("aimlTaskTransferTime", "timeValidity")
            if name in request
        ]
        until = min(ends, default=now + VALID)
        if until <= now:
            raise Forbidden("the time for this transfer is over", cause=REFUSED)
        return until

    def _dataset(self, request: Wire) -> str:
        """The data set to go on with: the one that is named, or the first for which there is a trainer that can."""
        if request["aimlTaskType"] != TRAINING_OPERATION:
            raise Forbidden("this client goes on with trainings only", cause=REFUSED)
        able = [name for name, trainer in self._trainers.items() if is_resumable(trainer)]
        named = request.get("aimle", {}).get("datasetId")
        if named is not None and named not in able:
            raise Forbidden("this client cannot go on with a training on that data set", cause=REFUSED)
        if not able:
            raise Forbidden("this client cannot go on with a training", cause=REFUSED)
        return str(named or able[0])

    async def _ask_policy(self, request: Wire) -> None:
        take_over = getattr(self._policy, "take_over", None)
        if take_over is None or not await take_over(dict(request)):
            raise Forbidden("this client does not take the task", cause=REFUSED)

    def _agreement(self, transfer_id: str) -> _Agreement | None:
        """The agreement, if it still holds; others that have ended are forgotten."""
        now = self._clock.now()
        self._agreed = {name: each for name, each in self._agreed.items() if each.until > now}
        return self._agreed.get(transfer_id)


def _loaded(path: Path, trainer: Trainer) -> tuple[FitState, Mapping[str, str]]:
    state, metadata = FitState.load(bytearray(path.read_bytes()))
    if not is_resumable(trainer):
        raise ValueError("the trainer cannot go on with a training")
    trainer.load_state(state)
    return state, metadata

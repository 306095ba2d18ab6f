"""The source's side of an AI/ML task transfer (TS 23.482 8.6.2.1, 8.6.2.3, 8.6.2.4).

The task is this client's until the server has answered the hand-over. Whatever fails before that, the training goes on
here where it stood. A lost answer is asked for: the server says who has the task.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from aimle_client.errors import (
    AimleClientError,
    NotFound,
    NothingToTransfer,
    ServerUnavailable,
    UnexpectedAnswer,
)
from aimle_client.http import Connection
from aimle_client.runtime.task import Task
from aimle_client.trainers.resumable import FitState
from aimle_client.transfer import deliver
from sbi.clock import Clock, from_wire, to_wire

_log = logging.getLogger("aimle.client")

DIRECT, SERVER_CONTROLLED = "DIRECT", "SERVER_CONTROLLED"
ASSIST = "/aimles-task-transfer/v1/assist-tt"
CONTROL = "/aimles-task-transfer/v1/request-ctld"
TRANSFERS = "/aimle-task-transfers/v1/transfers"
WINDOW = timedelta(minutes=10)
"""How long a transfer through the server may take, if the application does not say."""


@dataclass(frozen=True)
class Transferred:
    """A task that is another client's now.

    Attributes:
        transfer_id: of the transfer, as the server has recorded it.
        target: the client's identifier.
        mode: DIRECT or SERVER_CONTROLLED.
        iterations: done here, of `total`.
    """

    transfer_id: str
    target: str
    mode: str
    iterations: int
    total: int


@dataclass(frozen=True)
class _Offer:
    """What the server answered: by which transfer, to whom (client id -> apiRoot), how, and from when on."""

    transfer_id: str
    mode: str
    targets: Mapping[str, str]
    start: datetime
    window: Mapping[str, str]

    @classmethod
    def of(cls, answer: Any) -> Self:
        try:
            extension, window = answer["aimle"], answer["assistanceTime"]
            targets = {each["clientId"]: each["uri"] for each in extension["targets"]}
            start = from_wire(window["startTime"])
            return cls(extension["transferId"], extension["transferMode"], targets, start, window)
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer("the server does not move tasks of its trainings") from error


class Giving:
    """Gives tasks of one client away."""

    def __init__(self, connection: Connection, client_id: str, clock: Clock) -> None:
        self._connection = connection
        self._requestor = {"valUeId": client_id}
        self._clock = clock

    async def give(
        self, task: Task, *, target: str | None, direct: bool, validity: timedelta | None, reason: str
    ) -> Transferred:
        """Hand a task over; arguments as of `AimleClient.transfer`.

        Raises:
            AimleClientError: it stays here, and goes on.
        """
        if task.training_id is None or task.state_url is None:
            raise NothingToTransfer("the server of this training does not move tasks")
        if task.claimed:
            raise NothingToTransfer("the task is being handed over already")
        task.claimed = True
        try:
            return await self._give(task, target, direct, validity, reason)
        finally:
            task.claimed = False

    async def _give(
        self, task: Task, target: str | None, direct: bool, validity: timedelta | None, reason: str
    ) -> Transferred:
        offer = await self._assisted(task, target, direct, validity)
        await self._clock.sleep((offer.start - self._clock.now()).total_seconds())
        state = await task.reins.pause()
        try:
            done = await self._by_any_way(task, state, offer, target, reason)
        except BaseException:
            task.giving = False
            task.reins.go_on()
            raise
        task.reins.leave()
        _log.info(
            "the task on %s is %s's now, after %d iterations", task.dataset, done.target, done.iterations
        )
        return done

    async def _by_any_way(
        self, task: Task, state: FitState, offer: _Offer, target: str | None, reason: str
    ) -> Transferred:
        if offer.mode == DIRECT:
            if done := await self._directly(task, state, offer, reason):
                return done
            offer = await self._controlled(task, target)
        assert task.state_url is not None  # noqa: S101 - `give` looked
        await deliver(self._connection.session, task.state_url, task.file(state), self._clock)
        return await self._commit(task, state, offer, next(iter(offer.targets)), reason)

    async def _assisted(
        self, task: Task, target: str | None, direct: bool, validity: timedelta | None
    ) -> _Offer:
        now = self._clock.now()
        reins = task.reins
        body = self._request(task, target) | {
            "valServiceId": task.service,
            "aimlRmngTrainReq": {"reqRmngTrainIterNum": reins.total - reins.done},
            "aimlImdInfo": {"usedTrainIterNum": reins.done},
        }
        if task.began < now:
            body["aimlImdInfo"]["aimlUsedTrainTime"] = _wire(task.began, now)
        if validity is not None:
            body["timeValidity"] = _wire(now, now + validity)
        body["aimle"]["direct"] = direct
        return _Offer.of((await self._connection.request("POST", ASSIST, body=body)).body)

    async def _controlled(self, task: Task, target: str | None) -> _Offer:
        now = self._clock.now()
        body = self._request(task, target) | {"aimlTaskTransferTime": _wire(now, now + WINDOW)}
        return _Offer.of((await self._connection.request("POST", CONTROL, body=body)).body)

    def _request(self, task: Task, target: str | None) -> dict[str, Any]:
        reference: dict[str, Any] = {"trainingId": task.training_id}
        if target is not None:
            reference["targetId"] = target
        return {
            "requestorId": self._requestor,
            "aimlTaskType": "MODEL_TRAINING",
            "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
            "aimle": reference,
        }

    async def _directly(self, task: Task, state: FitState, offer: _Offer, reason: str) -> Transferred | None:
        """Hand the task to the first target that takes its state; None: none did."""
        for name, uri in offer.targets.items():
            try:
                await self._bring(task, state, offer, uri.rstrip("/"))
            except AimleClientError as error:
                _log.info("%s does not take the task itself: %s", name, error)
                continue
            return await self._commit(task, state, offer, name, reason)
        return None

    async def _bring(self, task: Task, state: FitState, offer: _Offer, uri: str) -> None:
        body = {
            "requestorId": self._requestor,
            "aimlTaskType": "MODEL_TRAINING",
            "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
            "aimlTaskTransferTime": dict(offer.window),
            "aimle": {"transferId": offer.transfer_id},
        }
        await self._connection.ask_peer(f"{uri}/aimlec-task-transfer/v1/request-direct", body)
        place = f"{uri}/aimle-task-states/v1/states/{offer.transfer_id}"
        await deliver(self._connection.session, place, task.file(state), self._clock)

    async def _commit(
        self, task: Task, state: FitState, offer: _Offer, target: str, reason: str
    ) -> Transferred:
        """Have the server put the target in this client's place; from its answer on the task is the target's."""
        assert task.hand_over_url is not None  # noqa: S101 - `give` looked
        iterations = int(state.details.get("done", task.reins.done))
        body = {"transferId": offer.transfer_id, "targetId": target, "iterations": iterations}
        task.giving = True
        try:
            await self._connection.notify(
                task.hand_over_url, body | ({"reason": reason[:200]} if reason else {})
            )
        except (NotFound, ServerUnavailable):
            if not await self._has_moved(offer):
                raise
        return Transferred(offer.transfer_id, target, offer.mode, iterations, task.reins.total)

    async def _has_moved(self, offer: _Offer) -> bool:
        """Whether the hand-over was done although its answer did not say so."""
        answer = await self._connection.request("GET", f"{TRANSFERS}/{offer.transfer_id}")
        return isinstance(answer.body, dict) and answer.body.get("state") == "HANDED_OVER"


def _wire(start: datetime, stop: datetime) -> dict[str, str]:
    return {"startTime": to_wire(start), "stopTime": to_wire(stop)}

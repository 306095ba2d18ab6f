"""The calls of a round to its participants: start, subscribe, change, withdraw (TS 23.482 8.12, 8.20)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aimle_server.consumers.aimle_clients import AimleClients, ClientRefused
from aimle_server.hfl.events import Errored, Event, Subscribed
from aimle_server.hfl.members import membership, stays_in_set
from aimle_server.hfl.training import Participant, Training
from aimle_server.procedures.client_participation import DEPART, ClientUnreachable
from aimle_server.procedures.schedule import OperationalSchedule

_log = logging.getLogger("aimle.hfl")

UNBOUNDED_SAMPLES = 2**31 - 1
"""`noDataSamp` where the VAL server set no number: as many as the client has."""


class RoundAsker:
    """Asks participants for a round, and takes it back.

    Args:
        clients: the calls.
        server_id: who asks, `requesterId` and `aimleServerId`.
        base_url: apiRoot and base path of the HFL addresses, `http://host:port/aimle-hfl/v1`.
    """

    def __init__(self, clients: AimleClients, server_id: str, base_url: str) -> None:
        self._clients = clients
        self._server_id = server_id
        self._base_url = base_url

    async def ask(
        self, training: Training, participants: Iterable[Participant], put: Callable[[Event], None]
    ) -> None:
        """Hand every participant the round's addresses, all at once; says Subscribed or Errored of each."""
        async with asyncio.TaskGroup() as group:
            for participant in participants:
                group.create_task(self._ask_one(training, participant, put))

    async def _ask_one(
        self, training: Training, participant: Participant, put: Callable[[Event], None]
    ) -> None:
        try:
            if participant.subscription is None or not await self._modify(training, participant):
                await self._start(training, participant)
                uri = await self._clients.subscribe(
                    participant.uri, self._subscription(training, participant)
                )
                put(Subscribed(participant.client_id, uri))
        except ClientUnreachable as error:
            _log.info("training %s: client %s: %s", training.training_id, participant.client_id, error)
            put(Errored(participant.client_id, training.round, training.attempt, str(error)))

    async def _modify(self, training: Training, participant: Participant) -> bool:
        """Point the subscription at this round; False where the client no longer has it."""
        assert participant.subscription is not None  # noqa: S101 - asked only of those that have one
        patch = {
            "notifUri": self._notif_uri(training, participant),
            "aimlMdlInfo": self._model_info(training, participant),
            "noDataSamp": self._samples(training),
        }
        try:
            await self._clients.modify(participant.subscription, patch)
        except ClientRefused as error:
            if error.status != 404:
                raise
            return False
        return True

    async def _start(self, training: Training, participant: Participant) -> None:
        """Hand over the addresses for model and update: the standard's only way to name them (8.20)."""
        own = f"{self._base_url}/participants/{participant.key}"
        await self._clients.perform(
            participant.uri,
            {
                "aimleServerId": self._server_id,
                "valServiceId": training.service_id,
                "servOpId": training.training_id,
                "servOpMode": "START",
                "servOpInfo": {"mlMdlUri": f"{own}/model", "mlMdAggregUri": f"{own}/update"},
            },
        )

    def _subscription(self, training: Training, participant: Participant) -> dict[str, Any]:
        body: dict[str, Any] = {
            "requesterId": self._server_id,
            "notifUri": self._notif_uri(training, participant),
            "aimlMdlInfo": self._model_info(training, participant),
            "dataId": participant.dataset,
            "noDataSamp": self._samples(training),
            "vaSrvId": training.service_id,
        }
        if weekly := OperationalSchedule.of_request(training.request).weekly:
            body["operSched"] = weekly
        return body

    def _model_info(self, training: Training, participant: Participant) -> dict[str, Any]:
        return {
            "mlModelId": training.output_model_id,
            "mlModelLoc": {"uri": self._round_uri(training, participant, "model")},
        }

    def _notif_uri(self, training: Training, participant: Participant) -> str:
        return self._round_uri(training, participant, "notifications")

    def _round_uri(self, training: Training, participant: Participant, resource: str) -> str:
        """An address of this round; asking again makes it another one, so that the client sees a change."""
        own = f"{self._base_url}/participants/{participant.key}"
        again = f"?attempt={training.attempt}" if training.attempt > 1 else ""
        return f"{own}/rounds/{training.round}/{resource}{again}"

    def _samples(self, training: Training) -> int:
        """`noDataSamp`; 0 asks for an evaluation of the received model and no update."""
        return 0 if training.evaluating_only else training.request.get("dataSamples", UNBOUNDED_SAMPLES)

    async def withdraw(self, training: Training, participants: Iterable[Participant]) -> None:
        """End subscriptions, operation and membership, as far as the clients can be reached."""
        async with asyncio.TaskGroup() as group:
            for participant in participants:
                group.create_task(self._withdraw_one(training, participant))

    async def _withdraw_one(self, training: Training, participant: Participant) -> None:
        stop = {"aimleServerId": self._server_id, "servOpId": training.training_id, "servOpMode": "STOP"}
        if participant.subscription:
            await self._try(training, participant, self._clients.unsubscribe(participant.subscription))
        await self._try(training, participant, self._clients.perform(participant.uri, stop))
        if stays_in_set(training, participant.client_id):
            return
        depart = membership(training, self._server_id, participant.dataset, DEPART)
        await self._try(training, participant, self._clients.participation(participant.uri, depart))

    async def _try(self, training: Training, participant: Participant, call: Awaitable[object]) -> None:
        try:
            await call
        except ClientUnreachable as error:
            _log.info("training %s: client %s: %s", training.training_id, participant.client_id, error)

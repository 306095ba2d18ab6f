"""Trainings and training profiles (AIMLES_MLModelTraining, TS 23.482 8.3; AIMLE_HFLManagement, our extension)."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aimle_client.answers import read
from aimle_client.errors import AimleClientError
from aimle_client.events import TrainingEvent
from aimle_client.listener import Mailbox, NotificationListener
from aimle_client.val.clients import ClientOperations
from aimle_client.val.training import Training
from aimle_client.val.values import Objective, TrainingProfile, TrainingStatus, Wire, given
from sbi.clock import Clock, to_wire
from schemas import hfl_management
from schemas.model_training import MlModelTrainResp

_HFL = "/aimle-hfl/v1"


class TrainingOperations(ClientOperations):
    """Operations that concern trainings."""

    _clock: Clock
    _listener: NotificationListener | None = None

    async def train(
        self,
        *,
        dataset_ids: Sequence[str],
        model_id: str | None = None,
        model_location: str | None = None,
        model_criteria: Wire | None = None,
        members: Sequence[str] | None = None,
        client_set: str | None = None,
        criteria: Wire | None = None,
        num_clients: int | None = None,
        samples: int | None = None,
        schedule: Wire | tuple[datetime, datetime] | None = None,
        objective: Objective | None = None,
        profile: TrainingProfile | None = None,
        member_updates: bool = False,
    ) -> Training:
        """Have a model trained by horizontal federated learning (AIMLES_MLModelTraining, TS 23.482 8.3).

        Returns at once, with a handle; the training runs at the AIMLE server and its clients. Who trains is said
        by `members` or `client_set`, by `criteria`, or by both: then criteria replace those who leave.
        The clients must work for the VAL service that the training is for: that of the client set, else the
        model's first, else the one that has this VAL server's name.

        Args:
            dataset_ids: `datasetId`: data sets on which the clients train.
            model_id: the model to begin with; or
            model_location: `mlModelLoc`, a URI of its bytes (safetensors); or
            model_criteria: `modelReq`, an MLModel that it must be like; see `model_criteria`.
            members: AIMLE client identifiers.
            client_set: `clientSetId`, from `select`.
            criteria: `memSelCrit`; see `member_criteria`.
            num_clients: `numReqClients`, how many train at the same time; None: all of them.
            samples: `dataSamples`, how many a client trains on in a round at most.
            schedule: `opSchedule`, when rounds may begin: from one moment to another, or a
                ScheduledCommunicationTime for every week.
            objective: when it ends; None: after as many rounds as the server allows (`hfl.max_rounds`), with the
                model of the last one.
            profile: strategy and hyperparameters; kept for `model_id` before the training begins, and for its
                later ones. None: the one that was kept last, or the server's defaults.
            member_updates: `memUpdNotif`, whether events tell who comes and goes.

        Raises:
            NotFound: no such model or client set for this VAL server.
            Conflict: the model is the result of a training that has not ended yet. That others train from the same
                model is no conflict.
            Forbidden: the model's usages do not include training.
            RequestRefused: 400, with `invalid_params`; 501, what the server does not support.
            ServerUnavailable: no answer. The request is not repeated, so the training may have begun: `trainings`.
        """
        if profile is not None and model_id is None:
            raise ValueError("profile: a training profile is kept for a model_id, and none is given")
        body = given(
            trnType="TRAIN_HFL",
            datasetId=list(dataset_ids),
            members=None if members is None else list(members),
            clientSetId=client_set,
            memSelCrit=criteria,
            numReqClients=num_clients,
            modelInf=_model(model_id, model_location),
            modelReq=model_criteria,
            dataSamples=samples,
            opSchedule=_schedule(schedule),
            trainObj=objective and objective.to_wire(),
            memUpdNotif=member_updates or None,
        )
        if profile is not None and model_id is not None:
            await self.put_training_profile(model_id, profile)
        return await self._begin(body)

    def training(self, training_id: str) -> Training:
        """A training that was begun earlier, by its identifier; nobody listens for it here."""
        return self._handle(training_id)

    async def trainings(self) -> list[TrainingStatus]:
        """This VAL server's latest trainings, newest first."""
        answer = await self._connection.request("GET", f"{_HFL}/trainings")
        found = read(hfl_management.TrainingStatus(many=True), answer.body)
        return [TrainingStatus.from_wire(document) for document in found]

    async def training_status(self, training_id: str) -> TrainingStatus:
        """How a training stands.

        Raises:
            NotFound: there is no such training of this VAL server.
        """
        answer = await self._connection.request("GET", f"{_HFL}/trainings/{quote(training_id, safe='')}")
        return TrainingStatus.from_wire(read(hfl_management.TrainingStatus(), answer.body))

    async def put_training_profile(self, model_id: str, profile: TrainingProfile) -> TrainingProfile:
        """Say how this VAL server's trainings of a model are run; returns it with the server's defaults.

        Raises:
            RequestRefused: 400, a value is out of range.
        """
        answer = await self._connection.request("PUT", _profile_path(model_id), body=profile.to_wire())
        return _read_profile(answer.body)

    async def get_training_profile(self, model_id: str) -> TrainingProfile:
        """The profile that was put.

        Raises:
            NotFound: there is none; the server's defaults hold.
        """
        answer = await self._connection.request("GET", _profile_path(model_id))
        return _read_profile(answer.body)

    async def delete_training_profile(self, model_id: str) -> None:
        """Back to the server's defaults.

        Raises:
            NotFound: there is none.
        """
        await self._connection.request("DELETE", _profile_path(model_id))

    async def _begin(self, body: dict[str, Any]) -> Training:
        mailbox = self._listener.open() if self._listener else None
        if mailbox is not None:
            body["notifUri"] = mailbox.url
        try:
            answer = await self._connection.request("POST", "/aimles-trn/v1/request-train", body=body)
            begun = read(MlModelTrainResp(), answer.body)
        except AimleClientError:
            if self._listener is not None and mailbox is not None:
                self._listener.close(mailbox)
            raise
        return self._handle(begun["trainingId"], mailbox)

    def _handle(self, training_id: str, mailbox: Mailbox[TrainingEvent] | None = None) -> Training:
        return Training(training_id, self.training_status, self._stop_at, self._clock, mailbox=mailbox)

    async def _stop_at(self, training_id: str, clients: Collection[str]) -> None:
        await self.stop_operation(clients=list(clients), training_id=training_id)


def _model(model_id: str | None, location: str | None) -> dict[str, Any] | None:
    """MlModelInfo."""
    endpoint = None if location is None else {"uri": location}
    return given(mlModelId=model_id, mlModelLoc=endpoint) or None


def _schedule(schedule: Wire | tuple[datetime, datetime] | None) -> str | None:
    """`opSchedule` in one of the two forms that the AIMLE server reads."""
    if schedule is None:
        return None
    if isinstance(schedule, tuple):
        return "/".join(map(to_wire, schedule))
    return json.dumps(schedule)


def _profile_path(model_id: str) -> str:
    return f"{_HFL}/models/{quote(model_id, safe='')}/training-profile"


def _read_profile(body: Any) -> TrainingProfile:
    return TrainingProfile.from_wire(read(hfl_management.TrainingProfile(), body))

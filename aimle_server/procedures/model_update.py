"""ML model update (TS 23.482 8.21): a consumer says that a model got worse and gets a better one.

A model that can replace it is answered at once. Otherwise the training that made it is run again, from it; the
answer waits for that a while and else says when to come back. A model that this server did not train and that
nothing can replace is not updated, and the answer says so; nor is one whose retraining failed, or brought nothing
better, a short while ago.

Anybody can store a model that says it comes from another one. Only the caller's own word and that of the
model's owner count, so that nobody can foist a model on the consumers of somebody else's.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from aimle_server.hfl.training import Training
from aimle_server.procedures.model_training import ModelTraining
from aimle_server.procedures.schedule import OperationalSchedule
from ml_repository.model_access import disclosed
from ml_repository.model_discovery import ModelDiscovery
from ml_repository.model_record import TRAINED, StoredModel
from ml_repository.models import Models
from ml_repository.trainings import Trainings
from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Conflict, Unavailable

RETRY_AFTER = 30
"""Seconds after which a consumer may ask again for a model that is being retrained."""

AGAIN = timedelta(minutes=10)
"""A retraining that came to nothing is not repeated for so long, however often somebody asks."""


class ModelUpdate:
    """Finds or makes a replacement.

    Args:
        wait_for: returns when a training has ended, or after a number of seconds.
        wait: that number.
    """

    def __init__(
        self,
        models: Models,
        discovery: ModelDiscovery,
        trainings: Trainings,
        training: ModelTraining,
        wait_for: Callable[[str, float], Awaitable[None]],
        wait: float,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._models = models
        self._discovery = discovery
        self._trainings = trainings
        self._training = training
        self._wait_for = wait_for
        self._wait = wait
        self._one_at_a_time = asyncio.Lock()

    async def request(self, caller: Caller, body: Mapping[str, Any], api_root: str) -> dict[str, Any]:
        """The MLMdlUpdateRsp with a better model.

        Raises:
            NotFound: the caller has no such model; Conflict: there is no better one, and no way to make one;
            Unavailable: it is being made.
        """
        degraded = await self._models.accessible(caller, body["mlModelId"])
        observed = body.get("performanceDegradationInfo", {}).get("accuracy")
        replacement = await self._replacement(caller, degraded, observed)
        if replacement is None:
            async with self._one_at_a_time:
                training_id = await self._retraining(caller, degraded)
            await self._wait_for(training_id, self._wait)
            ended = await self._has_ended(caller, training_id)
            replacement = await self._replacement(caller, degraded, observed)
            if replacement is None:
                raise _nothing_better(degraded) if ended else _being_retrained(degraded)
        return {
            "mlModelInformation": disclosed(replacement, caller),
            "mlModelRetrievalEndpoint": replacement.endpoint(api_root),
        }

    async def _replacement(
        self, caller: Caller, degraded: StoredModel, observed: int | None
    ) -> StoredModel | None:
        """The best newer model of the same line whose accuracy is above what was observed of this one."""
        related = []
        for base in {degraded.id, base_of(degraded)} - {None}:
            related += await self._discovery.find(
                caller, {"phaseInfo": {"trainingInfo": {"baseModelId": base}}}
            )
        trusted = [model for model in related if model.owner in (caller.subject, degraded.owner)]
        better = [model for model in trusted if _replaces(model, degraded, observed)]
        return max(better, key=lambda model: (accuracy_of(model) or 0.0, model.stored), default=None)

    async def _retraining(self, caller: Caller, degraded: StoredModel) -> str:
        """The id of the training that makes a replacement, or was to; begun now if there has been none of late."""
        latest = await self._trainings.latest(caller.subject, degraded.id)
        if latest and (latest["_open"] or self._clock.now() - latest["_created"] < AGAIN):
            return str(latest["_id"])
        made = await self._trainings.made(caller.subject, degraded.id)
        if made is None:
            raise Conflict(
                f"nothing replaces {degraded.id}, and it was not trained here for you",
                cause="NO_UPDATE_AVAILABLE",
            )
        earlier = Training.from_document(made)
        request = _again(earlier.request) | {"modelInf": {"mlModelId": degraded.id}}
        answer = await self._training.request(caller, request, earlier.profile)
        return str(answer["trainingId"])

    async def _has_ended(self, caller: Caller, training_id: str) -> bool:
        document = await self._trainings.find(training_id, caller.subject)
        return document is not None and Training.from_document(document).terminal


def _being_retrained(degraded: StoredModel) -> Unavailable:
    return Unavailable(
        f"the model {degraded.id} is being retrained", retry_after=RETRY_AFTER, cause="RETRAINING"
    )


def _nothing_better(degraded: StoredModel) -> Conflict:
    return Conflict(f"{degraded.id} was retrained, to nothing better", cause="NO_UPDATE_AVAILABLE")


def _again(request: Mapping[str, Any]) -> dict[str, Any]:
    """A TrainRequest to be made once more, with another model; an interval is over, a weekly window is not."""
    left_out = {"modelReq", "modelInf"}
    if OperationalSchedule.of_request(request).weekly is None:
        left_out.add("opSchedule")
    return {name: value for name, value in request.items() if name not in left_out}


def base_of(model: StoredModel) -> str | None:
    """The model that this one was trained from, where that is known."""
    base: str | None = model.info.get("phaseInfo", {}).get("trainingInfo", {}).get("baseModelId")
    return base


def accuracy_of(model: StoredModel) -> float | None:
    """A model's accuracy as a fraction: what a training of ours noted, else MLModelPerf's percentage."""
    observed = model.info.get("phaseInfo", {}).get("observedPerf", {})
    try:
        value = json.loads(observed.get("appSpecPerfData", ""))["accuracy"]
        if isinstance(value, int | float):
            return float(value)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        pass  # whoever stores a model writes there what he likes
    return observed["resourceAddr"] / 100 if "resourceAddr" in observed else None


def _replaces(model: StoredModel, degraded: StoredModel, observed: int | None) -> bool:
    newer = model.id != degraded.id and model.stored > degraded.stored
    if not (newer and model.retrievable and model.phase in TRAINED):
        return False
    accuracy = accuracy_of(model)
    return observed is None or (accuracy is not None and accuracy * 100 > observed)

"""The bytes of models (TS 23.482 8.11.2: the ML model of a storage request), put and got by mlModelId.

A file becomes visible only when it is a valid safetensors file and whole in the database; the file that it
replaces is there until then.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ml_repository.artifacts import Artifact, Artifacts
from ml_repository.discards import Discards
from ml_repository.model_record import ModelBytes, StoredModel
from ml_repository.models import Models, check_writable, in_training
from ml_repository.storages import Content, Storages
from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Conflict, Forbidden, InvalidRequest, NotFound
from sbi.tensors import InvalidTensors, describe

_WRITING = timedelta(hours=1)
"""Longer than any file takes into the database; what is unfinished then is left over from a crash."""

_PRIVATE = {"accessReqs": {"accessReq": "PRIVATE_USE_ONLY"}}

_INHERITED = (
    "adaeAnalyticsId",
    "valServiceIds",
    "domain",
    "customDomain",
    "vendors",
    "interopInfo",
    "usageReqs",
)
"""What a trained model has from its base; `vendors` above all, training does not widen a licence."""


class ModelArtifacts:
    """Takes and hands out the files of models that live in this repository."""

    def __init__(
        self,
        models: Models,
        storages: Storages,
        artifacts: Artifacts,
        discards: Discards,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        server_id: str,
        repository_id: str,
    ) -> None:
        self._models = models
        self._storages = storages
        self._artifacts = artifacts
        self._discards = discards
        self._clock = clock
        self._new_id = new_id
        self._stamp = {"aimleServId": server_id, "aimleRepId": repository_id}

    async def writable(self, caller: Caller, model_id: str) -> StoredModel:
        """The model that `caller` may put bytes for.

        Raises:
            NotFound: there is no such model for this caller.
            Forbidden: it is somebody else's.
            Conflict: it is in training, or lives elsewhere.
        """
        model = await self._models.accessible(caller, model_id)
        if model.owner != caller.subject:
            raise Forbidden(f"only its owner puts the bytes of {model_id}")
        check_writable(model)
        return model

    async def readable(self, caller: Caller, model_id: str) -> Artifact:
        """The file of a model that `caller` may have.

        Raises:
            NotFound: there is no such model for this caller, or no bytes of it here.
            Conflict: it is in training (cause MODEL_IN_TRAINING).
        """
        model = await self._models.accessible(caller, model_id)
        if model.in_training:
            raise in_training(model.id)
        artifact = await self._artifacts.find(model.bytes.artifact_id) if model.bytes else None
        if artifact is None:
            raise NotFound(f"no bytes of {model.id} are here", cause="ML_MODEL_NOT_FOUND")
        return artifact

    async def put(self, model: StoredModel, path: Path, sha256: str) -> StoredModel:
        """Keep the safetensors file at `path`, whose hex SHA-256 is `sha256`, as the bytes of `model`.

        Raises:
            InvalidRequest: it is not a valid safetensors file; the reason is told.
            NotFound, Conflict: the model has been deleted, or training began, meanwhile.
        """
        content = await self._keep(path, sha256)
        kept = await self._models.set_bytes(model, content)
        await self._discards.sweep(self._clock.now())
        return kept

    async def store_trained(
        self,
        owner: str,
        base_model_id: str,
        model_id: str,
        path: Path,
        sha256: str,
        *,
        observed_perf: Mapping[str, Any] | None = None,
        training_info: Mapping[str, Any] | None = None,
    ) -> StoredModel:
        """Store the model that a training made, in a storage of its own for `owner`.

        The profile is that of the base with phase TRAINED and `trainingInfo.baseModelId`. Who may have the
        base may have the new model if both have the same owner; otherwise it is private to `owner`, and so it
        is if the base has been deleted meanwhile.

        Args:
            owner: subject of whoever asked for the training.
            base_model_id: mlModelId of the model that the training began with.
            model_id: mlModelId of the new model.
            path: its safetensors file.
            sha256: hex SHA-256 of the file.
            observed_perf: MLModelPerf in wire shape.
            training_info: MLModelTrainingInfo in wire shape, without baseModelId.

        Raises:
            Conflict: another model has this mlModelId. The same file stored again is no conflict.
            InvalidRequest: the file is not a valid safetensors file.
        """
        existing = await self._models.get(model_id)
        if existing is not None:
            return _same(existing, owner, sha256)
        info = _derived(await self._models.get(base_model_id), owner)
        info |= {"mlModelId": model_id, "mlModelSrcId": owner}
        info["phaseInfo"] |= {"trainingInfo": {**(training_info or {}), "baseModelId": base_model_id}}
        if observed_perf:
            info["phaseInfo"] |= {"observedPerf": dict(observed_perf)}
        profile = {**self._stamp, "mlModelInfo": info}
        storage = await self._storages.create(owner, Content({}, [profile]), await self._keep(path, sha256))
        return storage.models[0]

    async def _keep(self, path: Path, sha256: str) -> ModelBytes:
        """The file as an artifact that goes away again unless a model comes to refer to it."""
        try:
            await asyncio.to_thread(describe, path)
        except InvalidTensors as error:
            raise InvalidRequest.of("body", str(error), cause="INVALID_ML_MODEL") from error
        artifact_id = self._new_id()
        await self._discards.note([artifact_id], self._clock.now() + _WRITING)
        artifact = await self._artifacts.put(artifact_id, path, sha256)
        return ModelBytes(artifact_id, artifact.size, artifact.sha256)


def _same(existing: StoredModel, owner: str, sha256: str) -> StoredModel:
    """A model that is already there, if it is the very one that is to be stored."""
    if existing.owner == owner and existing.bytes is not None and existing.bytes.sha256 == sha256:
        return existing
    raise Conflict(f"the mlModelId {existing.id} is in use", cause="ML_MODEL_ID_IN_USE")


def _derived(base: StoredModel | None, owner: str) -> dict[str, Any]:
    """What the MLModel of a trained model takes over from its base; `phaseInfo` is TRAINED."""
    if base is None:
        return {"phaseInfo": {"phase": "TRAINED"}, "storeDiscReqs": _PRIVATE}
    before = base.info.get("phaseInfo", {})
    again = {name: before[name] for name in ("contTrainInd", "contTrainParams") if name in before}
    info = {name: base.info[name] for name in _INHERITED if name in base.info}
    info["phaseInfo"] = {"phase": "TRAINED", **again}
    access = base.info.get("storeDiscReqs", {}).get("accessReqs")
    if base.owner != owner:
        info["storeDiscReqs"] = _PRIVATE
    elif access is not None:
        info["storeDiscReqs"] = {"accessReqs": access}
    return info

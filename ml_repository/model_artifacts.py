"""The bytes of models (TS 23.482 8.11.2: the ML model of a storage request), put and got by mlModelId.

A file becomes visible only when it is a valid safetensors file, or an ONNX model where the model's interopInfo is
`ONNX`, and whole in the database; the file that it replaces is there until then.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from ml_repository.artifacts import Artifact, Artifacts
from ml_repository.database import Session
from ml_repository.discards import Discards
from ml_repository.model_record import ModelBytes, StoredModel
from ml_repository.models import Models, check_writable, in_training, no_model
from ml_repository.storages import Content, Storages
from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Forbidden, InvalidRequest, NotFound
from sbi.onnx_file import InvalidOnnxFile, check_onnx
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

    async def awaited(self, caller: Caller, model_id: str) -> StoredModel | None:
        """The model, if it is the caller's own and takes bytes now; None, if only its bytes can be asked for.

        Raises:
            NotFound: there is no such model for this caller.
        """
        model = await self._models.accessible(caller, model_id)
        own = model.owner == caller.subject
        return model if own and model.hosted and not model.in_training else None

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

    def read(self, artifact: Artifact, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` up to `stop`, in pieces."""
        return self._artifacts.read(artifact, start, stop)

    async def put(self, model: StoredModel, path: Path, sha256: str) -> StoredModel:
        """Keep the file at `path`, whose hex SHA-256 is `sha256`, as the bytes of `model`.

        Raises:
            InvalidRequest: it is not a valid file of the model's format; the reason is told.
            NotFound, Conflict: the model has been deleted, or training began, meanwhile.
        """
        content = await self._keep(path, sha256, check_onnx if model.onnx else describe)
        kept = await self._models.set_bytes(model, content)
        await self._discards.sweep(self._clock.now())
        return kept

    async def add(self, owner: str, info: Mapping[str, Any]) -> StoredModel:
        """A new model with this MLModel, in a storage of its own for `owner`; its bytes are to be put.

        Raises:
            Conflict: the mlModelId is in use.
        """
        content = Content({}, [{**self._stamp, "mlModelInfo": dict(info)}])
        [model] = (await self._storages.create(owner, content)).models
        return model

    async def reserve(
        self, owner: str, base: StoredModel | None, model_id: str, session: Session | None = None
    ) -> None:
        """Make the place for a model that is about to be trained, in a storage of its own for `owner`.

        Its profile is in phase IN_TRAINING, without bytes, and what else `base`, the model that the training
        begins with, says of itself. Who may have the base may have the new model if both have the same owner;
        otherwise it is private to `owner`. With `session` the place exists if its transaction commits.

        Raises:
            Conflict: the mlModelId is in use.
        """
        info = {**_derived(base, owner), "mlModelId": model_id, "mlModelSrcId": owner}
        await self._storages.create(owner, Content({}, [{**self._stamp, "mlModelInfo": info}]), session)

    async def complete(
        self,
        model_id: str,
        path: Path,
        sha256: str,
        *,
        observed_perf: Mapping[str, Any] | None = None,
        training_info: Mapping[str, Any] | None = None,
    ) -> StoredModel:
        """Put the result of a training in the place reserved for it; the model is TRAINED then.

        Doing it again with the same file changes nothing.

        Args:
            model_id: the mlModelId that was reserved.
            path: the safetensors file.
            sha256: hex SHA-256 of the file.
            observed_perf: MLModelPerf in wire shape.
            training_info: MLModelTrainingInfo in wire shape, with the baseModelId.

        Raises:
            NotFound: its owner has deleted the model meanwhile.
            Conflict: its owner has said meanwhile that it lives elsewhere.
            InvalidRequest: the file is not a valid safetensors file.
        """
        model = await self._models.get(model_id)
        if model is None:
            raise no_model(model_id)
        if not model.in_training and model.bytes is not None and model.bytes.sha256 == sha256:
            return model
        result = {"phase": "TRAINED", "observedPerf": observed_perf, "trainingInfo": training_info}
        return await self._models.set_bytes(model, await self._keep(path, sha256, describe), result)

    async def abandon(self, model_id: str) -> None:
        """Remove the place of a model that its training did not make; nothing happens to any other model."""
        model = await self._models.get(model_id)
        if model is not None and model.in_training and model.bytes is None:
            await self._models.remove(model)

    async def _keep(self, path: Path, sha256: str, check: Callable[[Path], object]) -> ModelBytes:
        """The file as an artifact that goes away again unless a model comes to refer to it."""
        try:
            await asyncio.to_thread(check, path)
        except (InvalidTensors, InvalidOnnxFile) as error:
            raise InvalidRequest.of("body", str(error), cause="INVALID_ML_MODEL") from error
        artifact_id = self._new_id()
        await self._discards.note([artifact_id], self._clock.now() + _WRITING)
        artifact = await self._artifacts.put(artifact_id, path, sha256)
        return ModelBytes(artifact_id, artifact.size, artifact.sha256)


def _derived(base: StoredModel | None, owner: str) -> dict[str, Any]:
    """What the MLModel of a model in training takes over from the model that the training begins with."""
    if base is None:
        return {"phaseInfo": {"phase": "IN_TRAINING"}, "storeDiscReqs": _PRIVATE}
    before = base.info.get("phaseInfo", {})
    again = {name: before[name] for name in ("contTrainInd", "contTrainParams") if name in before}
    info = {name: base.info[name] for name in _INHERITED if name in base.info}
    info["phaseInfo"] = {"phase": "IN_TRAINING", **again}
    access = base.info.get("storeDiscReqs", {}).get("accessReqs")
    if base.owner != owner:
        info["storeDiscReqs"] = _PRIVATE
    elif access is not None:
        info["storeDiscReqs"] = {"accessReqs": access}
    return info

"""Models: store, find, retrieve, have updated, and move their bytes (TS 23.482 8.2, 8.11, 8.21)."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from aimle_client.answers import created_id, read
from aimle_client.errors import AimleClientError, NotFound, UnexpectedAnswer
from aimle_client.trainers.base import Parameters
from aimle_client.val.calls import Calls, as_query
from aimle_client.val.checks import all_known, known, texts, within
from aimle_client.val.model_files import ModelFiles
from aimle_client.val.values import StoredModel, Wire, given
from sbi import tensors
from sbi.transfer import Progress
from schemas.base import merge_patch
from schemas.model_discovery import DiscoveryResp
from schemas.model_management import AccessReqs, MLModelDomain, MLModelPhase, MLModelsStorage, MLModelUsage
from schemas.model_retrieval import MLMdlRetRsp
from schemas.model_update import MLMdlUpdateRsp

_RESTRICTED = "RESTRICTED"


class ModelOperations(Calls):
    """Operations that concern models.

    A model's bytes are a safetensors file; `Parameters` are its tensors by name. `progress(done, total)` is
    called on the event loop while bytes move, both in bytes. A transfer that breaks goes on where it stopped.
    """

    _files: ModelFiles

    async def store_model(
        self,
        model_id: str,
        parameters: Parameters | Path | None = None,
        *,
        domain: str | None = None,
        access: str | Wire | None = None,
        val_servers: Sequence[str] = (),
        val_clients: Sequence[str] = (),
        services: Sequence[str] = (),
        vendors: Sequence[str] = (),
        usages: Sequence[str] = (),
        phase: str = "NOT_TRAINED",
        duration: int | None = None,
        info: Wire | None = None,
        metadata: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> StoredModel:
        """Store one model in a storage of its own, and upload it (MLR_MLModelManagement, TS 23.482 8.11.2).

        Args:
            model_id: `mlModelId`, unique in the repository.
            parameters: the tensors, or a file: safetensors, or ONNX with `info={"interopInfo": "ONNX"}`; None: the
                bytes follow by `upload_model`.
            domain: SPEECH_RECOGNITION, IMAGE_RECOGNITION, IMAGE_PROCESSING, LOCATION_PREDICTION or CUSTOM.
            access: PUBLICLY_AVAILABLE, PRIVATE_USE_ONLY or RESTRICTED, or an MLModelAccessReqs. RESTRICTED says
                nothing without whom to: it comes of `val_servers` and `val_clients` by itself.
                None: for this VAL server alone, unless there are `vendors` or one of these two.
            val_servers: VAL servers that may have it, by their client identifiers.
            val_clients: VAL clients (UEs) that may have it, by their client identifiers.
            services: `valServiceIds`, the VAL services that it is for.
            vendors: whose AIMLE clients and servers may have it.
            usages: TRAINING, INFERENCE; empty: any.
            phase: NOT_TRAINED, IN_TRAINING, TRAINED, IN_RETRAINING or DEPLOYED.
            duration: seconds after which it is deleted; None: never.
            info: merge patch (RFC 7396) on the MLModel that comes of all this.
            metadata: strings for the safetensors header; with tensors only.
            progress: of the upload.

        Raises:
            Conflict: the mlModelId is in use.
            RequestRefused: 400, with `invalid_params`, also for a file that is not what it is to be.
            TransferFailed: the bytes did not arrive. As after any failure, nothing is stored.
            ValueError: a value that is not listed here, or an `access` that contradicts the rest.
            InvalidTensors: an array has a dtype without a place in a model file.
        """
        within("duration", duration, 0)
        uses = all_known("usages", usages, MLModelUsage)
        reqs = given(accessReqs=_access(access, val_servers, val_clients), duration=duration)
        model = given(
            mlModelId=model_id,
            domain=known("domain", domain, MLModelDomain),
            valServiceIds=texts("services", services),
            vendors=texts("vendors", vendors),
            usageReqs=uses and {"usages": uses},
            phaseInfo={"phase": known("phase", phase, MLModelPhase)},
            storeDiscReqs=reqs or None,
        )
        body = {"mlModels": [{"mlModelInfo": merge_patch(model, info or {})}]}
        answer = await self._connection.request("POST", "/mlr-mlmm/v1/storages", body=body)
        storage_id = created_id(answer)
        stored = read(MLModelsStorage(), answer.body)
        if parameters is not None:
            await self._fill(storage_id, model_id, parameters, metadata, progress)
        return StoredModel.of_profile(stored["mlModels"][0], storage_id)

    async def upload_model(
        self,
        model_id: str,
        parameters: Parameters | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Put the bytes of a model that is stored, or replace them (our extension).

        Raises:
            NotFound: there is no such model for this VAL server; Forbidden: it is somebody else's.
            Conflict: it is in training, or its bytes are kept elsewhere.
            RequestRefused: 400, not a valid safetensors file; 413, too large.
            TransferFailed: the bytes did not arrive.
        """
        with tempfile.TemporaryDirectory(prefix="aimle-") as folder:
            if isinstance(parameters, Path):
                path = parameters
            else:
                path = Path(folder, "model.safetensors")
                await asyncio.to_thread(tensors.write, path, parameters, metadata or {})
            await self._files.put(_bytes_path(model_id), path, progress)

    async def download_model(
        self, model_id: str, path: Path | None = None, *, progress: Progress | None = None
    ) -> Parameters:
        """Get a model's tensors (our extension); also keep the file at `path`, if given.

        Raises: as `download_file`; InvalidTensors for a dtype that NumPy does not have.
        """
        with tempfile.TemporaryDirectory(prefix="aimle-") as folder:
            target = path or Path(folder, "model.safetensors")
            await self.download_file(model_id, target, progress=progress)
            parameters, _ = await asyncio.to_thread(tensors.read, target)
        return parameters

    async def download_file(self, model_id: str, path: Path, *, progress: Progress | None = None) -> Path:
        """Get a model's safetensors file as it is, for models that need not fit into memory; returns `path`.

        Raises:
            NotFound: no such model for this VAL server, or no bytes of it here.
            Conflict: it is in training.
            TransferFailed: the bytes did not arrive; CorruptTransfer: not those that the server announced.
        """
        await self._files.get(_bytes_path(model_id), path, progress)
        return path

    async def find_models(self, criteria: Wire) -> list[StoredModel]:
        """Find models that this VAL server may have (MLR_ModelInformationDiscovery, TS 23.482 8.11.3).

        Args:
            criteria: an MLModel as a filter; see `model_criteria`.

        Raises:
            RequestRefused: 400, the criteria are wrong.
        """
        query = {"filt-criteria": as_query(criteria)}
        try:
            answer = await self._connection.request("GET", "/mlr-mid/v1/models", query=query)
        except NotFound:  # the standard's type for the answer has no way to say: none
            return []
        found = read(DiscoveryResp(), answer.body)
        return [StoredModel.of_profile(profile) for profile in found.get("profiles", ())]

    async def retrieve_models(self, criteria: Wire | None = None) -> list[StoredModel]:
        """Addresses of models that can be downloaded now (AIMLES_MLModelRetrieval, TS 23.482 8.2).

        The result says of each model its identifier and `uri` only.

        Args:
            criteria: `modelSelCrit`, an MLModel as a filter; None: any.

        Raises:
            NotFound: none (cause ML_MODEL_NOT_FOUND).
            Conflict: all that would do are in training (cause MODEL_IN_TRAINING).
        """
        body = given(modelSelCrit=criteria)
        answer = await self._connection.request("POST", "/aimles-mlmr/v1/retrieve", body=body)
        found = read(MLMdlRetRsp(), answer.body)["mlModels"]
        return [
            StoredModel(model["mlModelId"], {}, model.get("mlMdlEndpoint", {}).get("uri")) for model in found
        ]

    async def update_model(
        self,
        model_id: str,
        *,
        accuracy: int | None = None,
        precision: int | None = None,
        recall: int | None = None,
        location: str | None = None,
    ) -> StoredModel:
        """Get a better model for one that got worse (AIMLES_MLModelUpdate, TS 23.482 8.21).

        The server answers with a model that it has, or trains one, for which it lets the caller wait a while.

        Args:
            model_id: the model that got worse.
            accuracy, precision, recall: what was observed of it, in per cent; all three or none.
            location: where its bytes are, if not in the repository.

        Raises:
            ServerUnavailable: a better one is being trained; ask again after `retry_after` seconds.
            Conflict: there is none and no way to make one (cause NO_UPDATE_AVAILABLE).
            NotFound: there is no such model for this VAL server.
        """
        observed = given(accuracy=accuracy, precision=precision, recall=recall)
        if observed and len(observed) < 3:
            raise ValueError("accuracy, precision, recall: all three or none")
        body = given(
            mlModelId=model_id,
            performanceDegradationInfo=observed or None,
            mlModelRetrievalEndpoint=None if location is None else {"uri": location},
        )
        answer = await self._connection.request("POST", "/aimles-mlmupd/v1/request", body=body)
        better = read(MLMdlUpdateRsp(), answer.body)
        if "mlModelInformation" not in better:
            raise UnexpectedAnswer("the answer does not say which model it is about")
        info = better["mlModelInformation"]
        return StoredModel(info["mlModelId"], info, better.get("mlModelRetrievalEndpoint", {}).get("uri"))

    async def _fill(
        self,
        storage_id: str,
        model_id: str,
        parameters: Parameters | Path,
        metadata: Mapping[str, str] | None,
        progress: Progress | None,
    ) -> None:
        """Upload into a storage that was just made; where that fails, the storage goes again."""
        try:
            await self.upload_model(model_id, parameters, metadata=metadata, progress=progress)
        except BaseException:
            with suppress(AimleClientError):
                await self._connection.request("DELETE", f"/mlr-mlmm/v1/storages/{storage_id}")
            raise


def _access(access: str | Wire | None, servers: Sequence[str], clients: Sequence[str]) -> Wire | None:
    """MLModelAccessReqs; ValueError where the arguments do not make one."""
    allowed = given(valServerIds=texts("val_servers", servers), valClientIds=texts("val_clients", clients))
    if access is not None and not isinstance(access, str):
        if allowed:
            raise ValueError("access: an MLModelAccessReqs names val_servers and val_clients itself")
        return access
    known("access", access, AccessReqs)
    if allowed and access not in (None, _RESTRICTED):
        raise ValueError(f"access: val_servers and val_clients go with RESTRICTED, not with {access}")
    if access == _RESTRICTED and not allowed:
        raise ValueError("access: RESTRICTED needs val_servers, val_clients, or to be an MLModelAccessReqs")
    if access is None and not allowed:
        return None
    return {"accessReq": access or _RESTRICTED, **allowed}


def _bytes_path(model_id: str) -> str:
    return f"/aimle-artifacts/v1/models/{quote(model_id, safe='')}"

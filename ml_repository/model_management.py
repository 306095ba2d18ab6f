"""ML model information storage (TS 23.482 8.11.2, TS 29.482 6.2.1): the storages of models of an owner.

Storing again renews: `duration` and `timePeriod` count from the last time that a PUT, or a PATCH with
`mlModels`, named the model. `mlModelsAddresses` is kept and shown; nothing is fetched from there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_repository.model_access import ANY
from ml_repository.model_record import TRAINED, StoredModel, artifact_uri
from ml_repository.storages import Content, Storage, Storages
from sbi.auth import Caller
from sbi.body import load
from sbi.errors import InvalidParam, InvalidRequest
from schemas.base import merge_patch
from schemas.common import NO_FEATURES
from schemas.model_management import MLModelsStorage

RESERVED = frozenset({"", ANY, ".", ".."})
"""Not mlModelIds: the wildcard of filters, and what cannot be a segment of a path."""

_RESTRICTIONS = ("valServerIds", "valClientIds", "timePeriod", "location")


class ModelManagement:
    """Stores profiles for their owners: the subject that created a storage, and nobody else."""

    def __init__(self, storages: Storages, *, server_id: str, repository_id: str) -> None:
        """Profiles are stamped with the AIMLE server that stores them and the repository that holds them."""
        self._storages = storages
        self._stamp = {"aimleServId": server_id, "aimleRepId": repository_id}

    async def create(
        self, caller: Caller, body: Mapping[str, Any], api_root: str
    ) -> tuple[str, dict[str, Any]]:
        """The storageId and the MLModelsStorage of a new storage.

        Raises:
            InvalidRequest: a rule between attributes is broken; invalid_params says which.
            Conflict: an mlModelId is in use in this repository.
        """
        content = self._content(caller, body, api_root, ())
        storage = await self._storages.create(caller.subject, content)
        return storage.id, storage.wire(api_root)

    async def find(
        self,
        caller: Caller,
        storage_ids: Sequence[str] | None,
        profile_ids: Sequence[str] | None,
        api_root: str,
    ) -> list[dict[str, Any]]:
        """The caller's storages as MLModelsStorage; only those with these ids or holding these profiles.

        Raises:
            InvalidRequest: both kinds of ids are given.
        """
        if storage_ids is not None and profile_ids is not None:
            raise InvalidRequest.of("profile-ids", "storage-ids and profile-ids exclude each other")
        storages = await self._storages.find(caller.subject, storage_ids, profile_ids)
        return [storage.wire(api_root) for storage in storages]

    async def get(self, caller: Caller, storage_id: str, api_root: str) -> dict[str, Any]:
        """The caller's storage as MLModelsStorage.

        Raises:
            NotFound: there is none, or it is not the caller's.
        """
        return (await self._storages.get(caller.subject, storage_id)).wire(api_root)

    async def replace(
        self, caller: Caller, storage_id: str, body: Mapping[str, Any], api_root: str
    ) -> dict[str, Any]:
        """The storage with this content instead; a model that is named again keeps profile id and bytes.

        Raises:
            NotFound, InvalidRequest, Conflict: as for `get` and `create`.
        """

        def edit(storage: Storage) -> Content:
            return self._content(caller, body, api_root, storage.models)

        return (await self._storages.change(caller.subject, storage_id, edit)).wire(api_root)

    async def modify(
        self, caller: Caller, storage_id: str, patch: Mapping[str, Any], api_root: str
    ) -> dict[str, Any]:
        """The storage after a JSON merge patch: an array that is given replaces the whole array.

        Raises:
            NotFound, InvalidRequest, Conflict: as for `get` and `create`.
        """

        def edit(storage: Storage) -> Content:
            body = load(MLModelsStorage(), merge_patch(storage.wire(api_root), patch))
            if "mlModels" not in patch:
                return Content(_fields(body), None)
            return self._content(caller, body, api_root, storage.models)

        return (await self._storages.change(caller.subject, storage_id, edit)).wire(api_root)

    async def delete(self, caller: Caller, storage_id: str) -> None:
        """Delete the storage with its models and their bytes.

        Raises:
            NotFound: there is none, or it is not the caller's.
        """
        await self._storages.delete(caller.subject, storage_id)

    def _content(
        self, caller: Caller, body: Mapping[str, Any], api_root: str, held: Sequence[StoredModel]
    ) -> Content:
        profiles = body.get("mlModels", ())
        check(profiles)
        hosted = {model.id for model in held if model.hosted}
        return Content(
            _fields(body), [self._profile(caller, profile, api_root, hosted) for profile in profiles]
        )

    def _profile(
        self, caller: Caller, profile: Mapping[str, Any], api_root: str, hosted: set[str]
    ) -> dict[str, Any]:
        """A profile as it is kept: stamped, and without mlModelUri where that is an address of ours."""
        info = {**profile["mlModelInfo"], "mlModelSrcId": caller.subject}
        stamped = {**profile, **self._stamp, "mlModelInfo": info}
        if _is_ours(profile.get("mlModelUri", {}), info["mlModelId"], api_root, hosted):
            del stamped["mlModelUri"]
        return stamped


def _fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a storage has beside its models; of the features that its owner names, none is supported."""
    fields = {name: body[name] for name in ("mlModelsAddresses", "suppFeat") if name in body}
    return fields | {"suppFeat": NO_FEATURES} if "suppFeat" in body else fields


def _is_ours(endpoint: Mapping[str, Any], model_id: str, api_root: str, hosted: set[str]) -> bool:
    """Whether an owner's mlModelUri is the address that this server gave out.

    The server may be reached under another name next time. So for a model whose bytes are here the path
    decides, lest they are dropped because a client sends back what it was told.
    """
    uri = str(endpoint.get("uri", ""))
    return uri == artifact_uri(api_root, model_id) or (
        model_id in hosted and uri.endswith(artifact_uri("", model_id))
    )


def check(profiles: Sequence[Mapping[str, Any]]) -> None:
    """Check what TS 29.482 6.2.1.6.2 says in words about the attributes of the models of one storage.

    Raises:
        InvalidRequest: with every attribute that may not be there or is missing.
    """
    wrong: list[InvalidParam] = []
    seen: set[str] = set()
    for index, profile in enumerate(profiles):
        model = profile["mlModelInfo"]
        problems = _problems(model)
        if model["mlModelId"] in seen:
            problems["mlModelId"] = "the same model twice"
        seen.add(model["mlModelId"])
        wrong += [
            InvalidParam(f"/mlModels/{index}/mlModelInfo/{path}", text) for path, text in problems.items()
        ]
    if wrong:
        raise InvalidRequest.naming(wrong)


def _problems(model: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with an MLModel: path below it -> reason."""
    phase = model.get("phaseInfo", {})
    access = model.get("storeDiscReqs", {}).get("accessReqs", {})
    trained = phase.get("phase") in TRAINED
    restricted = access.get("accessReq") == "RESTRICTED"
    checks = {
        "mlModelId": (model["mlModelId"] not in RESERVED, "not an identifier of a model"),
        "customDomain": (
            "customDomain" not in model or model.get("domain") == "CUSTOM",
            "only with domain CUSTOM",
        ),
        **{
            f"phaseInfo/{name}": (name not in phase or trained, "only with phase TRAINED or DEPLOYED")
            for name in ("observedPerf", "trainingInfo")
        },
        "phaseInfo/contTrainParams": (
            "contTrainParams" not in phase or phase.get("contTrainInd", False),
            "only with contTrainInd true",
        ),
        **{
            f"storeDiscReqs/accessReqs/{name}": (name not in access or restricted, "only with RESTRICTED")
            for name in _RESTRICTIONS
        },
        "storeDiscReqs/accessReqs": (
            not restricted or any(name in access for name in _RESTRICTIONS),
            f"RESTRICTED needs at least one of {', '.join(_RESTRICTIONS)}",
        ),
    }
    return {path: reason for path, (holds, reason) in checks.items() if not holds}

"""The models of the ML repository (TS 23.482 8.11): found by what they are, and by who may have them.

A document is the model's MLModelProfile (mlModelUri only where the bytes are elsewhere) and, underscored:

    _id       the mlModelId, one model for each in the whole repository
    _owner    subject that stored it
    _storage  the storage it belongs to
    _stored   when its owner last stored it
    _changed  when something of it, or its bytes, last changed
    _expires  from when it is gone, where it has a storage duration
    _bytes    id, size and sha256 of its artifact, or None
    _readers  `model_access.readers`: a query looks at no model that its caller cannot have

`storages` creates, replaces and deletes them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document, Session
from ml_repository.discards import Discards
from ml_repository.model_access import ANY, Located, may_access, nowhere
from ml_repository.model_record import ModelBytes, StoredModel
from ml_repository.subscriptions import Happened
from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import Conflict, NotFound

_INDEXED = (
    "mlModelInfo.phaseInfo.trainingInfo.baseModelId",
    "mlModelInfo.adaeAnalyticsId",
    "mlModelInfo.domain",
    "mlModelInfo.phaseInfo.phase",
)
"""Attributes of a filter that an index is for, those first that fewer models share."""

_ALL_MODELS = "ml-models"

INDEXES = {
    "models": [
        IndexModel([("_storage", ASCENDING)]),
        IndexModel([("_expires", ASCENDING)]),
        IndexModel([("_changed", ASCENDING)]),
        IndexModel([("mlModelProfId", ASCENDING)], unique=True),
        IndexModel([("mlModelInfo.valServiceIds", ASCENDING)]),
        IndexModel([("mlModelInfo.mlModelSrcId", ASCENDING)]),
        IndexModel([("_readers", ASCENDING)]),
        *(IndexModel([("_readers", ASCENDING), (path, ASCENDING)]) for path in _INDEXED),
    ]
}


class Models:
    """Reads models, and changes what the repository itself knows of them: phase, results, bytes, expiry."""

    def __init__(
        self, database: Database, discards: Discards, clock: Clock, located: Located = nowhere
    ) -> None:
        self._database = database
        self._models = database["models"]
        self._storages = database["storages"]
        self._discards = discards
        self._clock = clock
        self._located = located

    def may_access(self, model: StoredModel, caller: Caller) -> bool:
        """Whether `caller` may have `model` now."""
        return may_access(model, caller, self._clock.now(), self._located)

    async def get(self, model_id: str) -> StoredModel | None:
        """The model, if there is one that has not expired."""
        document = await self._models.find_one({"_id": model_id})
        return model_of(document) if document and alive(document, self._clock.now()) else None

    async def of_source(self, source: str) -> list[StoredModel]:
        """The models of this mlModelSrcId, expired ones too."""
        query = {"mlModelInfo.mlModelSrcId": source}
        return [model_of(document) async for document in self._models.find(query)]

    async def accessible(self, caller: Caller, model_id: str) -> StoredModel:
        """The model, for a caller who may have it.

        Raises:
            NotFound: there is none, or none for this caller; which of the two is not said.
        """
        model = await self.get(model_id)
        if model is None or not self.may_access(model, caller):
            raise no_model(model_id)
        return model

    async def candidates(self, caller: Caller, criteria: Mapping[str, Any]) -> list[StoredModel]:
        """The living models that this caller can have and that may meet an MLModel filter, by mlModelId.

        The database compares only what one index answers; `matches` and `may_access` have the last word.
        """
        now = self._clock.now()
        found = {
            document["_id"]: model_of(document)
            for query in queries_of(caller.subject, criteria)
            async for document in self._models.find(query)
            if alive(document, now)
        }
        return [model for _, model in sorted(found.items()) if self.may_access(model, caller)]

    async def set_phase(
        self,
        model_id: str,
        phase: str,
        *,
        observed_perf: Mapping[str, Any] | None = None,
        training_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Record where the model stands, an MLModelPhase, and with it MLModelPerf and MLModelTrainingInfo.

        What is not given stays as it was; results are shown only while the phase is TRAINED or DEPLOYED.

        Raises:
            NotFound: the model is gone.
        """
        given = {"phase": phase, "observedPerf": observed_perf, "trainingInfo": training_info}
        change = {"_changed": self._clock.now(), **_phase_change(given)}
        result = await self._models.update_one({"_id": model_id}, {"$set": change})
        if not result.matched_count:
            raise no_model(model_id)

    async def set_bytes(
        self, model: StoredModel, content: ModelBytes, result: Mapping[str, Any] | None = None
    ) -> StoredModel:
        """Let `model` have this file, instead of the one it had.

        Args:
            model: as it was read before the file was written.
            content: the file, whose discard is withdrawn.
            result: the MLModelPhaseInfo that comes with the file, if it is what the training made.

        Raises:
            NotFound: the model was deleted or replaced meanwhile.
            Conflict: it is in training and this is not the result, or its bytes are elsewhere by now.
        """

        async def write(session: Session) -> None:
            document = await self._models.find_one({"_id": model.id}, session=session)
            if document is None or document["mlModelProfId"] != model.profile_id:
                raise no_model(model.id)
            check_writable(model_of(document), result=result is not None)
            change = {"_bytes": _bytes_document(content), "_changed": self._clock.now()}
            change |= _phase_change(result or {})
            await self._models.update_one({"_id": model.id}, {"$set": change}, session=session)
            await self._discards.withdraw(content.artifact_id, session)
            await self._discards.note(artifacts_of([document]), self._clock.now(), session)

        await self._database.run_in_transaction(write)
        written = await self.get(model.id)
        if written is None:
            raise no_model(model.id)
        return written

    async def events(self, since: datetime, now: datetime) -> list[Happened]:
        """Which models have changed since then."""
        what = {"_changed": True, "mlModelInfo.valServiceIds": True}
        found = await self._models.find({"_changed": {"$gt": since, "$lte": now}}, what).to_list(None)
        return [Happened(one["_id"], one["_changed"], _topics_of(one)) for one in found]

    async def remove(self, model: StoredModel) -> None:
        """Delete one model, its bytes, and its storage if that is left with nothing."""
        await self._remove({"_id": model.id}, self._clock.now())

    async def remove_expired(self, now: datetime) -> int:
        """Delete models whose storage duration is over, storages that are left with nothing, and artifacts.

        Returns the number of models deleted. Reading has not shown them since they expired.
        """
        return await self._remove({"_expires": {"$lte": now}}, now)

    async def _remove(self, query: Document, now: datetime) -> int:
        async def write(session: Session) -> int:
            gone = await self._models.find(query, session=session).to_list(None)
            await self._models.delete_many(
                {"_id": {"$in": [model["_id"] for model in gone]}}, session=session
            )
            await self._discards.note(artifacts_of(gone), now, session)
            for storage_id in {model["_storage"] for model in gone}:
                await self._remove_if_empty(storage_id, session)
            return len(gone)

        removed = await self._database.run_in_transaction(write)
        await self._discards.sweep(now)
        return removed

    async def _remove_if_empty(self, storage_id: str, session: Session) -> None:
        storage = await self._storages.find_one({"_id": storage_id}, session=session)
        model = await self._models.find_one({"_storage": storage_id}, session=session)
        if model is None and storage is not None and "mlModelsAddresses" not in storage:
            await self._storages.delete_one({"_id": storage_id}, session=session)


def topic_of(criteria: Mapping[str, Any]) -> str:
    """What events of models that meet an MLModel filter are about."""
    if (model_id := criteria.get("mlModelId", ANY)) != ANY:
        return f"ml-model:{model_id}"
    if services := criteria.get("valServiceIds"):
        return f"ml-service:{services[0]}"
    return _ALL_MODELS


def _topics_of(document: Document) -> list[str]:
    services = document["mlModelInfo"].get("valServiceIds", ())
    return [f"ml-model:{document['_id']}", *(f"ml-service:{service}" for service in services), _ALL_MODELS]


def queries_of(subject: str, criteria: Mapping[str, Any]) -> list[Document]:
    """Queries that together find all models which meet an MLModel filter and which `subject` may have.

    Each has conditions that one index answers alone, so that no planner needs to be clever about it.
    """
    if (model_id := criteria.get("mlModelId", ANY)) != ANY:
        return [{"_id": model_id}]
    if services := criteria.get("valServiceIds"):
        return [{"mlModelInfo.valServiceIds": services[0]}]
    wanted = {"mlModelInfo": criteria}
    attribute = next(({path: value} for path in _INDEXED if (value := _at(wanted, path)) is not None), {})
    return [{"_readers": reader, **attribute} for reader in (subject, ANY)]


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = (value or {}).get(name)
    return value


def alive(document: Mapping[str, Any], now: datetime) -> bool:
    """Whether a model's storage duration is not over yet."""
    expires = document.get("_expires")
    return expires is None or now < expires


def _phase_change(given: Mapping[str, Any]) -> Document:
    """The parts of an MLModelPhaseInfo that are given, as fields to set."""
    return {f"mlModelInfo.phaseInfo.{name}": value for name, value in given.items() if value is not None}


def check_writable(model: StoredModel, *, result: bool = False) -> None:
    """Refuse bytes for a model that lives elsewhere, or is in training unless they are the training's result."""
    if model.in_training and not result:
        raise in_training(model.id)
    if not model.hosted:
        raise Conflict(f"the mlModelUri of {model.id} names another place", cause="ML_MODEL_ELSEWHERE")


def in_training(model_id: str) -> Conflict:
    """The refusal that TS 23.482 8.11.3 asks for while a model is trained or retrained."""
    return Conflict(f"the model {model_id} is in training", cause="MODEL_IN_TRAINING")


def no_model(model_id: str) -> NotFound:
    """What whoever may not have a model is told as well."""
    return NotFound(f"no model {model_id}", cause="ML_MODEL_NOT_FOUND")


def artifacts_of(documents: Iterable[Mapping[str, Any]]) -> set[str]:
    """The artifact ids that these model documents refer to."""
    return {document["_bytes"]["id"] for document in documents if document.get("_bytes")}


def _bytes_document(content: ModelBytes) -> Document:
    return {"id": content.artifact_id, "size": content.size, "sha256": content.sha256}


def model_of(document: Mapping[str, Any]) -> StoredModel:
    """A model as its document says."""
    content = document.get("_bytes")
    return StoredModel(
        id=document["_id"],
        owner=document["_owner"],
        storage_id=document["_storage"],
        stored=document["_stored"],
        expires=document.get("_expires"),
        bytes=ModelBytes(content["id"], content["size"], content["sha256"]) if content else None,
        profile={name: value for name, value in document.items() if not name.startswith("_")},
    )

"""The ML Models Storages (TS 29.482 6.2.1): which models belong together, whose they are, and their writes.

A document is `_id` (storageId), `_owner`, `_models` (mlModelIds in the order given) and, where given,
suppFeat and mlModelsAddresses. The models are documents of their own (`models`); both change in one transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, IndexModel

from ml_repository.database import Database, Document, Session
from ml_repository.discards import Discards
from ml_repository.model_access import readers
from ml_repository.model_record import StoredModel, moment_after
from ml_repository.models import alive, artifacts_of, model_of
from sbi.clock import Clock
from sbi.errors import Conflict, NotFound

INDEXES = {"storages": [IndexModel([("_owner", ASCENDING)])]}


@dataclass(frozen=True)
class Content:
    """What a storage is to hold.

    Attributes:
        fields: mlModelsAddresses and suppFeat, where given.
        profiles: MLModelProfiles in wire shape, without mlModelUri for a model whose bytes are to be here.
            None: the models stay as they are.
    """

    fields: Mapping[str, Any]
    profiles: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class Storage:
    """A storage and its living models, in the order its owner gave them."""

    id: str
    owner: str
    fields: Mapping[str, Any]
    models: tuple[StoredModel, ...]

    def wire(self, api_root: str) -> dict[str, Any]:
        """MLModelsStorage in wire shape."""
        profiles = [model.wire(api_root) for model in self.models]
        return {**({"mlModels": profiles} if profiles else {}), **self.fields}


Edit = Callable[[Storage], Content]


class Storages:
    """Creates, changes and deletes storages; a storage without living models or addresses is not there."""

    def __init__(
        self, database: Database, discards: Discards, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._database = database
        self._storages = database["storages"]
        self._models = database["models"]
        self._discards = discards
        self._clock = clock
        self._new_id = new_id

    async def get(self, owner: str, storage_id: str) -> Storage:
        """The storage, for its owner.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        return await self._get(owner, storage_id, None)

    async def find(
        self, owner: str, storage_ids: Sequence[str] | None = None, profile_ids: Sequence[str] | None = None
    ) -> list[Storage]:
        """This owner's storages; only those with these ids or with one of these profiles, where given."""
        if profile_ids is not None:
            found = self._models.find({"mlModelProfId": {"$in": list(profile_ids)}}, {"_storage": True})
            storage_ids = [model["_storage"] async for model in found]
        query = {"_owner": owner} if storage_ids is None else {"_id": {"$in": list(storage_ids)}}
        documents = await self._storages.find(query).to_list(None)
        storages = [
            await self._compose(document, None) for document in documents if document["_owner"] == owner
        ]
        return [storage for storage in storages if storage is not None]

    async def create(self, owner: str, content: Content, session: Session | None = None) -> Storage:
        """A new storage with this content; with `session` it exists if its transaction commits.

        Raises:
            Conflict: an mlModelId is in use.
        """
        empty = Storage(self._new_id(), owner, {}, ())

        async def write(session: Session) -> Storage:
            return await self._write(empty, content, session)

        return await (write(session) if session else self._database.run_in_transaction(write))

    async def change(self, owner: str, storage_id: str, edit: Edit) -> Storage:
        """Give the storage the content that `edit` makes of it; models that stay keep profile id and bytes.

        Raises:
            NotFound: there is no such storage of this owner.
            Conflict: an mlModelId is in use.
        """

        async def write(session: Session) -> Storage:
            storage = await self._get(owner, storage_id, session)
            return await self._write(storage, edit(storage), session)

        changed = await self._database.run_in_transaction(write)
        await self._discards.sweep(self._clock.now())
        return changed

    async def delete(self, owner: str, storage_id: str) -> None:
        """Delete the storage, its models and their bytes.

        Raises:
            NotFound: there is no such storage of this owner.
        """

        async def write(session: Session) -> None:
            storage = await self._get(owner, storage_id, session)
            await self._replace_models(storage, (), session)
            await self._storages.delete_one({"_id": storage_id}, session=session)

        await self._database.run_in_transaction(write)
        await self._discards.sweep(self._clock.now())

    async def _get(self, owner: str, storage_id: str, session: Session | None) -> Storage:
        document = await self._storages.find_one({"_id": storage_id}, session=session)
        storage = await self._compose(document, session) if document else None
        if storage is None or storage.owner != owner:
            raise NotFound(f"no storage {storage_id}")
        return storage

    async def _compose(self, document: Document, session: Session | None) -> Storage | None:
        now = self._clock.now()
        found = await self._models.find({"_storage": document["_id"]}, session=session).to_list(None)
        living = {model["_id"]: model_of(model) for model in found if alive(model, now)}
        models = tuple(living[name] for name in document["_models"] if name in living)
        fields = {name: value for name, value in document.items() if not name.startswith("_")}
        if not models and "mlModelsAddresses" not in fields:
            return None
        return Storage(document["_id"], document["_owner"], fields, models)

    async def _write(self, storage: Storage, content: Content, session: Session) -> Storage:
        models = storage.models
        if content.profiles is not None:
            models = await self._replace_models(storage, content.profiles, session)
        document = {"_id": storage.id, "_owner": storage.owner, "_models": [model.id for model in models]}
        await self._storages.replace_one(
            {"_id": storage.id}, {**document, **content.fields}, upsert=True, session=session
        )
        return Storage(storage.id, storage.owner, content.fields, models)

    async def _replace_models(
        self, storage: Storage, profiles: Sequence[Mapping[str, Any]], session: Session
    ) -> tuple[StoredModel, ...]:
        """Write the models of a storage anew, and note the artifacts that nothing refers to any more."""
        now = self._clock.now()
        wanted = [profile["mlModelInfo"]["mlModelId"] for profile in profiles]
        held = {
            document["_id"]: document
            for query in ({"_storage": storage.id}, {"_id": {"$in": wanted}})
            async for document in self._models.find(query, session=session)
        }
        for name, document in held.items():
            if document["_storage"] != storage.id and alive(document, now):
                raise Conflict(f"the mlModelId {name} is in use", cause="ML_MODEL_ID_IN_USE")
        kept = {name: held[name] for name in wanted if name in held and alive(held[name], now)}
        documents = [
            self._document(storage, profile, now, kept.get(name))
            for name, profile in zip(wanted, profiles, strict=True)
        ]
        await self._models.delete_many({"_id": {"$in": list(held)}}, session=session)
        if documents:
            await self._models.insert_many(documents, session=session)
        await self._discards.note(artifacts_of(held.values()) - artifacts_of(documents), now, session)
        return tuple(model_of(document) for document in documents)

    def _document(
        self, storage: Storage, profile: Mapping[str, Any], now: datetime, kept: Document | None
    ) -> Document:
        """The document of a model that is stored now; `kept`, what it was, lends profile id and bytes."""
        info = profile["mlModelInfo"]
        document: Document = {
            **profile,
            "_id": info["mlModelId"],
            "_owner": storage.owner,
            "_storage": storage.id,
            "_stored": now,
            "_changed": now,
            "_readers": readers(info, storage.owner),
            "_bytes": kept.get("_bytes") if kept and "mlModelUri" not in profile else None,
            "mlModelProfId": kept["mlModelProfId"] if kept else self._new_id(),
        }
        if (duration := info.get("storeDiscReqs", {}).get("duration")) is not None:
            document["_expires"] = moment_after(now, duration)
        return document

"""ML models storages of the ML repository (MLR_MLModelManagement; TS 23.482 8.11.2), as documents."""

from collections.abc import Sequence
from urllib.parse import quote

from aimle_client.answers import created_id, read
from aimle_client.val.calls import Calls
from aimle_client.val.values import Storage, Wire
from schemas.model_management import MLModelsStorage

_PATH = "/mlr-mlmm/v1/storages"
_STORAGE = MLModelsStorage()


class StorageOperations(Calls):
    """The storages of this VAL server, and of nobody else.

    `content` is an MLModelsStorage in wire shape: `{"mlModels": [MLModelProfile, ...]}`. `store_model` makes one
    for a single model. Every method raises RequestRefused (400) for content that breaks a rule, with
    `invalid_params`, and NotFound for a storage that is not there or somebody else's.
    """

    async def create_storage(self, content: Wire) -> Storage:
        """Store the profiles of models; where their bytes go is each one's `mlModelUri`.

        Raises:
            Conflict: an mlModelId is in use.
        """
        answer = await self._connection.request("POST", _PATH, body=content)
        return Storage(created_id(answer), read(_STORAGE, answer.body))

    async def list_storages(
        self, *, storage_ids: Sequence[str] = (), profile_ids: Sequence[str] = ()
    ) -> list[Wire]:
        """MLModelsStorage of each storage; only those with these identifiers or with these profiles."""
        query = {"storage-ids": ",".join(storage_ids), "profile-ids": ",".join(profile_ids)}
        given = {name: value for name, value in query.items() if value}
        answer = await self._connection.request("GET", _PATH, query=given)
        found: list[Wire] = read(MLModelsStorage(many=True), answer.body)
        return found

    async def get_storage(self, storage_id: str) -> Storage:
        """One storage."""
        return await self._exchange("GET", storage_id)

    async def replace_storage(self, storage_id: str, content: Wire) -> Storage:
        """Other content instead; a model that is named again keeps its bytes."""
        return await self._exchange("PUT", storage_id, content)

    async def modify_storage(self, storage_id: str, patch: Wire) -> Storage:
        """A JSON merge patch (RFC 7396): an array that is given replaces the whole array.

        TS 29.482 has it sent as application/json.
        """
        return await self._exchange("PATCH", storage_id, patch)

    async def delete_storage(self, storage_id: str) -> None:
        """Delete the storage, its models and their bytes."""
        await self._connection.request("DELETE", _path(storage_id))

    async def _exchange(self, method: str, storage_id: str, body: Wire | None = None) -> Storage:
        answer = await self._connection.request(method, _path(storage_id), body=body)
        if answer.status == 204:  # the standard lets a server answer a change with nothing
            return await self.get_storage(storage_id)
        return Storage(storage_id, read(_STORAGE, answer.body))


def _path(storage_id: str) -> str:
    return f"{_PATH}/{quote(storage_id, safe='')}"

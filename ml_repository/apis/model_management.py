"""MLR_MLModelManagement (TS 29.482 6.2.1; TS 23.482 8.11.2)."""

from aiohttp import web

from ml_repository.keys import MODEL_MANAGEMENT
from sbi.api import Api, Call, Operation, Query, created, no_content, ok
from sbi.mount import api_root
from schemas.base import Array, Text
from schemas.common import SupportedFeatures
from schemas.model_management import MLModelsStorage, MLModelsStoragePatch


async def get_storages(call: Call) -> web.Response:
    """The caller's storages, all of them or those asked for."""
    found = await call[MODEL_MANAGEMENT].find(
        call.caller, call.query.get("storage-ids"), call.query.get("profile-ids"), api_root(call.request)
    )
    return ok(found)


async def create_storage(call: Call) -> web.Response:
    """A new storage."""
    storage_id, storage = await call[MODEL_MANAGEMENT].create(call.caller, call.body, api_root(call.request))
    return created(storage, f"{call.base_url}/storages/{storage_id}")


async def get_storage(call: Call) -> web.Response:
    """One storage of the caller."""
    return ok(await call[MODEL_MANAGEMENT].get(call.caller, call.path("storageId"), api_root(call.request)))


async def replace_storage(call: Call) -> web.Response:
    """Another content for a storage."""
    return ok(
        await call[MODEL_MANAGEMENT].replace(
            call.caller, call.path("storageId"), call.body, api_root(call.request)
        )
    )


async def modify_storage(call: Call) -> web.Response:
    """A JSON merge patch of a storage."""
    return ok(
        await call[MODEL_MANAGEMENT].modify(
            call.caller, call.path("storageId"), call.body, api_root(call.request)
        )
    )


async def delete_storage(call: Call) -> web.Response:
    """No storage any more, and none of its models."""
    await call[MODEL_MANAGEMENT].delete(call.caller, call.path("storageId"))
    return no_content()


API = Api(
    name="MLR_MLModelManagement",
    spec="TS 29.482",
    version="1.0.1",
    base_path="/mlr-mlmm/v1",
    operations=(
        Operation(
            "GET",
            "/storages",
            "GetMLModelsStorages",
            get_storages,
            query=(
                Query("storage-ids", Array(Text())),
                Query("profile-ids", Array(Text())),
                Query("supp-feats", SupportedFeatures()),
            ),
            answers={200: MLModelsStorage(many=True)},
            summary="The caller's storages of models.",
        ),
        Operation(
            "POST",
            "/storages",
            "CreateMLModelsStorage",
            create_storage,
            body=MLModelsStorage(),
            answers={201: MLModelsStorage()},
            location=True,
            summary="Store models.",
        ),
        Operation(
            "GET",
            "/storages/{storageId}",
            "GetIndMLModelsStorage",
            get_storage,
            answers={200: MLModelsStorage()},
            summary="One storage of models.",
        ),
        Operation(
            "PUT",
            "/storages/{storageId}",
            "UpdateIndMLModelsStorage",
            replace_storage,
            body=MLModelsStorage(),
            answers={200: MLModelsStorage(), 204: None},
            summary="Replace what a storage holds.",
        ),
        Operation(
            "PATCH",
            "/storages/{storageId}",
            "ModifyIndMLModelsStorage",
            modify_storage,
            body=MLModelsStoragePatch(),
            answers={200: MLModelsStorage(), 204: None},
            summary="Change a part of what a storage holds.",
        ),
        Operation(
            "DELETE",
            "/storages/{storageId}",
            "DeleteIndMLModelsStorage",
            delete_storage,
            summary="Delete a storage with its models and their bytes.",
        ),
    ),
)

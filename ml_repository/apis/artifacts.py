"""AIMLE_ModelArtifacts, our extension: the bytes of the models in the repository (TS 23.482 8.11.2, 8.2).

The standard gives a model an address (mlModelUri) and says nothing about what is there. Here its owner puts the
model and whoever may have it gets it, as one safetensors file, or as an ONNX model where interopInfo is `ONNX`.
"""

from functools import partial

from aiohttp import web

from ml_repository.keys import MODEL_ARTIFACTS, MODEL_SPOOL
from ml_repository.model_record import ARTIFACTS_PATH, StoredModel
from sbi.api import Api, Call, Operation, no_content
from sbi.digests import SHA256, sha256
from sbi.serve import send

FILE = "application/octet-stream"


async def put_model(call: Call) -> web.Response:
    """The owner's file, whole or from where the last attempt stopped."""
    model = await call[MODEL_ARTIFACTS].writable(call.caller, call.path("mlModelId"))
    received = await call[MODEL_SPOOL].receive(_upload(model), call.request)
    if received is not None:
        path = call[MODEL_SPOOL].take(_upload(model))
        try:
            await call[MODEL_ARTIFACTS].put(model, path, received.hashing.digest(SHA256).hex)
        finally:
            path.unlink(missing_ok=True)
    return no_content()


async def get_model(call: Call) -> web.StreamResponse:
    """The file, or the part of it that the request asks for."""
    files = call[MODEL_ARTIFACTS]
    artifact = await files.readable(call.caller, call.path("mlModelId"))
    return await send(call.request, partial(files.read, artifact), artifact.size, sha256(artifact.sha256))


async def head_model(call: Call) -> web.StreamResponse:
    """To its owner, how much of an upload is here as long as one is missing or unfinished; else as GET."""
    model = await call[MODEL_ARTIFACTS].awaited(call.caller, call.path("mlModelId"))
    if model is not None:
        offset = call[MODEL_SPOOL].offset(_upload(model))
        if offset or model.bytes is None:
            return web.Response(headers={"Upload-Offset": str(offset)})
    return await get_model(call)


def _upload(model: StoredModel) -> str:
    """The name of a model's unfinished upload; a model that is deleted and stored again has another."""
    return model.profile_id


API = Api(
    name="AIMLE_ModelArtifacts",
    spec="AIMLE",
    version="1.0.0",
    base_path=ARTIFACTS_PATH,
    operations=(
        Operation(
            "PUT",
            "/models/{mlModelId}",
            "PutModelArtifact",
            put_model,
            streams=FILE,
            summary="Put the file of a model of one's own; with Content-Range, the rest of it.",
        ),
        Operation(
            "GET",
            "/models/{mlModelId}",
            "GetModelArtifact",
            get_model,
            answers={200: None, 206: None},
            streams=FILE,
            summary="Get the file of a model, or a part of it (Range).",
        ),
        Operation(
            "HEAD",
            "/models/{mlModelId}",
            "GetModelArtifactState",
            head_model,
            answers={200: None},
            summary="Size and digest of the file; to its owner, how much of an unfinished upload is here.",
        ),
    ),
    extension=True,
)

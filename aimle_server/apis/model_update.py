"""AIMLES_MLModelUpdate (TS 29.482; TS 23.482 8.21)."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, ok
from sbi.mount import api_root
from schemas.model_update import MLMdlUpdateReq, MLMdlUpdateRsp


async def request_update(call: Call) -> web.Response:
    """A better model for one that got worse."""
    return ok(await call[SERVICES].update.request(call.caller, call.body, api_root(call.request)))


API = Api(
    name="AIMLES_MLModelUpdate",
    spec="TS 29.482",
    version="1.0.0",
    base_path="/aimles-mlmupd/v1",
    operations=(
        Operation(
            "POST",
            "/request",
            "RequestMLModelUpdate",
            request_update,
            body=MLMdlUpdateReq(),
            answers={200: MLMdlUpdateRsp()},
            summary="Ask for a better model.",
        ),
    ),
)

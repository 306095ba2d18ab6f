"""AIMLES_AIMLEServiceOperationsManagement (TS 29.482; TS 23.482 8.20)."""

from aiohttp import web

from aimle_server.procedures.service_operations import DrivenElsewhere
from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, ok
from schemas.service_operations import AimlServOperReq, AimlServOperResp


async def request_operation(call: Call) -> web.StreamResponse:
    """Start or stop an operation at AIMLE clients; a training's, where it is driven."""
    try:
        return ok(await call[SERVICES].operations.request(call.caller, call.body))
    except DrivenElsewhere as error:
        return await call[SERVICES].peers.ask_holder(call.request, None, error.training_id, error)


API = Api(
    name="AIMLES_AIMLEServiceOperationsManagement",
    spec="TS 29.482",
    version="1.0.0",
    base_path="/aimles-opm/v1",
    operations=(
        Operation(
            "POST",
            "/request",
            "Request",
            request_operation,
            body=AimlServOperReq(),
            answers={200: AimlServOperResp()},
            summary="Start or stop an operation at AIMLE clients.",
        ),
    ),
)

"""Aimlec_AIMLEClientServiceOperations (TS 24.560; TS 23.482 8.20): the server starts and stops work here."""

from aiohttp import web

from aimle_client.runtime.operations import ServiceOperations
from sbi.api import Api, Call, Operation, ok
from schemas.client_service_operations import AimleClientServOpReq, AimleClientServOpResp

SERVICE_OPERATIONS = web.AppKey("service_operations", ServiceOperations)


async def perform(call: Call) -> web.Response:
    """Start or stop an operation; both may be repeated."""
    return ok(call[SERVICE_OPERATIONS].perform(call.caller.subject, call.body))


API = Api(
    name="Aimlec_AIMLEClientServiceOperations",
    spec="TS 24.560",
    version="1.0.2",
    base_path="/aimlec-serv-ops/v1",
    operations=(
        Operation(
            "POST",
            "/perform",
            "AimleServOperReq",
            perform,
            body=AimleClientServOpReq(),
            answers={200: AimleClientServOpResp()},
            summary="Start or stop an AI/ML service operation at the AIMLE client",
        ),
    ),
)

"""Aimles_AimlTaskTransfer (TS 24.560; TS 23.482 8.6), and ours that tells what became of a transfer."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, ok
from schemas.task_transfer import (
    AimlesControlledTaskTransferReq,
    AimlesControlledTaskTransferResp,
    AimlesTaskTransferAssistReq,
    AimlesTaskTransferAssistResp,
    TransferStatus,
)


async def assist(call: Call) -> web.Response:
    """Who can go on with the caller's task, and when."""
    return ok(await call[SERVICES].task_transfer.assist(call.caller, call.body))


async def control(call: Call) -> web.Response:
    """When the caller's task may go through this server."""
    return ok(await call[SERVICES].task_transfer.control(call.caller, call.body))


async def status(call: Call) -> web.Response:
    """How one of the caller's transfers stands."""
    return ok(await call[SERVICES].task_transfer.status(call.caller, call.path("transferId")))


API = Api(
    name="Aimles_AimlTaskTransfer",
    spec="TS 24.560",
    version="1.0.2",
    base_path="/aimles-task-transfer/v1",
    operations=(
        Operation(
            "POST",
            "/assist-tt",
            "AimlTtAssist",
            assist,
            body=AimlesTaskTransferAssistReq(),
            answers={200: AimlesTaskTransferAssistResp()},
            summary="Ask who can go on with an AI/ML task",
        ),
        Operation(
            "POST",
            "/request-ctld",
            "CtldAimlTt",
            control,
            body=AimlesControlledTaskTransferReq(),
            answers={200: AimlesControlledTaskTransferResp()},
            summary="Have an AI/ML task handed over through the AIMLE server",
        ),
    ),
)

TRANSFERS_API = Api(
    name="AIMLE_TaskTransfers",
    spec="AIMLE",
    version="1.0.0",
    base_path="/aimle-task-transfers/v1",
    extension=True,
    operations=(
        Operation(
            "GET",
            "/transfers/{transferId}",
            "GetTaskTransfer",
            status,
            answers={200: TransferStatus()},
            summary="How a transfer stands, and how it came to that",
        ),
    ),
)

"""Aimlec_AimlTaskTransfer (TS 24.560; TS 23.482 8.6): this client is asked to go on with another one's task.

The state comes by an API of ours, since the standard says nothing of how: its address ends with the identifier of the
transfer, which nobody guesses, so it is its own permission.
"""

import asyncio

from aiohttp import web

from aimle_client.runtime.takeover import Takeovers
from sbi.api import Api, Call, Operation, no_content, ok
from sbi.spool import Spool
from schemas.client_task_transfer import (
    AimleClientDirectTransferReq,
    AimleClientTaskTransferReq,
    AimleClientTaskTransferRes,
)

TAKEOVERS = web.AppKey("takeovers", Takeovers)
STATE_SPOOL = web.AppKey("state_spool", Spool)

OCTETS = "application/octet-stream"


async def request(call: Call) -> web.Response:
    """The AIMLE server asks."""
    return ok(await call[TAKEOVERS].answer(call.body))


async def request_direct(call: Call) -> web.Response:
    """The source asks."""
    await call[TAKEOVERS].answer_direct(call.body)
    return no_content()


async def put_state(call: Call) -> web.Response:
    """The state of a task that this client has agreed to take, whole or from where the last attempt stopped."""
    name = call.path("transferId")
    call[TAKEOVERS].check(name)
    if await call[STATE_SPOOL].receive(name, call.request) is not None:
        path = call[STATE_SPOOL].take(name)
        try:
            await call[TAKEOVERS].receive(name, path)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
    return no_content()


async def head_state(call: Call) -> web.Response:
    """How much of an unfinished upload is here."""
    name = call.path("transferId")
    call[TAKEOVERS].check(name)
    return web.Response(headers={"Upload-Offset": str(call[STATE_SPOOL].offset(name))})


API = Api(
    name="Aimlec_AimlTaskTransfer",
    spec="TS 24.560",
    version="1.0.2",
    base_path="/aimlec-task-transfer/v1",
    operations=(
        Operation(
            "POST",
            "/request",
            "AimlTaskTransf",
            request,
            body=AimleClientTaskTransferReq(),
            answers={200: AimleClientTaskTransferRes()},
            summary="Ask the AIMLE client to go on with another one's AI/ML task",
        ),
        Operation(
            "POST",
            "/request-direct",
            "DirAimlTaskTransf",
            request_direct,
            body=AimleClientDirectTransferReq(),
            summary="Ask the AIMLE client to take over the caller's AI/ML task",
        ),
    ),
)

STATES_API = Api(
    name="AIMLE_TaskStates",
    spec="AIMLE",
    version="1.0.0",
    base_path="/aimle-task-states/v1",
    extension=True,
    operations=(
        Operation(
            "PUT",
            "/states/{transferId}",
            "PutTaskState",
            put_state,
            streams=OCTETS,
            capability=True,
            summary="Bring the intermediate state of a task; with Content-Range, the rest of it.",
        ),
        Operation(
            "HEAD",
            "/states/{transferId}",
            "GetTaskStateOffset",
            head_state,
            answers={200: None},
            capability=True,
            summary="How much of an unfinished upload is here (Upload-Offset).",
        ),
    ),
)

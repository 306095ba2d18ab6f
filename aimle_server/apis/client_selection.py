"""AIMLES_AIMLEClientSelection (TS 29.482 6.1.7): clients that agree become a client set (TS 23.482 8.9, 8.13)."""

from aiohttp import web

from aimle_server.apis.subscriptions import Names, subscription_operations
from aimle_server.services import SERVICES
from sbi.api import Api, Call, Callback, Operation, ok
from schemas.client_selection import (
    ClientSelNotif,
    ClientSelReq,
    ClientSelResp,
    ClientSelSub,
    ClientSelSubPatch,
)


async def select(call: Call) -> web.Response:
    """Select."""
    return ok(await call[SERVICES].selection.select(call.caller, call.body))


API = Api(
    "AIMLES_AIMLEClientSelection",
    spec="TS 29.482",
    version="1.1.0-alpha.1",
    base_path="/aimles-sel/v1",
    operations=(
        *subscription_operations(
            lambda call: call[SERVICES].selection_subscriptions,
            Names(
                "CreateAimleClSelSubscription",
                "GetIndAimleClSelSubscription",
                "UpdateIndAimleClSelSubscription",
                "ModifyIndAimleClSelSubscription",
                "UnsubscribeAimleClSelSubscription",
            ),
            ClientSelSub(),
            ClientSelSubPatch(),
            Callback("myNotification", ClientSelNotif()),
            "the selection of clients",
        ),
        Operation(
            "POST",
            "/select",
            "Select",
            select,
            body=ClientSelReq(),
            answers={200: ClientSelResp()},
            summary="Select AIMLE clients and form a client set.",
        ),
    ),
)

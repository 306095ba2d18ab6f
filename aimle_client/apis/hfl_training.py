"""Aimlec_HFLTraining (TS 24.560; TS 23.482 8.12): the server subscribes to the training on local data."""

from aiohttp import web

from aimle_client.runtime.subscriptions import Subscriptions
from sbi.api import MERGE_PATCH, Api, Call, Callback, Operation, created, no_content, ok
from schemas.hfl_training import HflTrngNotify, HflTrngSub, HflTrngSubPatch

SUBSCRIPTIONS = web.AppKey("subscriptions", Subscriptions)


async def subscribe(call: Call) -> web.Response:
    """Make a subscription; its first round begins."""
    document = call[SUBSCRIPTIONS].create(call.caller.subject, call.body)
    return created(document, f"{call.base_url}/subscriptions/{document['subId']}")


async def read(call: Call) -> web.Response:
    """One subscription."""
    return ok(call[SUBSCRIPTIONS].read(call.caller.subject, call.path("subscriptionId")))


async def update(call: Call) -> web.Response:
    """Replace a subscription; a new model address begins a round."""
    return ok(call[SUBSCRIPTIONS].replace(call.caller.subject, call.path("subscriptionId"), call.body))


async def modify(call: Call) -> web.Response:
    """Change a subscription; a new model address begins a round."""
    return ok(call[SUBSCRIPTIONS].modify(call.caller.subject, call.path("subscriptionId"), call.body))


async def unsubscribe(call: Call) -> web.Response:
    """End a subscription and the round it has under way."""
    call[SUBSCRIPTIONS].delete(call.caller.subject, call.path("subscriptionId"))
    return no_content()


API = Api(
    name="Aimlec_HFLTraining",
    spec="TS 24.560",
    version="1.1.0-alpha.1",
    base_path="/aimlec-hfl-trng/v1",
    operations=(
        Operation(
            "POST",
            "/subscriptions",
            "HFLTraningSubs",
            subscribe,
            body=HflTrngSub(),
            answers={201: HflTrngSub()},
            location=True,
            callback=Callback("notifUri", HflTrngNotify()),
            summary="Subscribe to HFL training at the AIMLE client",
        ),
        Operation(
            "GET",
            "/subscriptions/{subscriptionId}",
            "RetrieveHFLTraningSubs",
            read,
            answers={200: HflTrngSub()},
            summary="Read an HFL training subscription",
        ),
        Operation(
            "PUT",
            "/subscriptions/{subscriptionId}",
            "UpdateHFLTrainingSubs",
            update,
            body=HflTrngSub(),
            answers={200: HflTrngSub()},
            summary="Replace an HFL training subscription",
        ),
        Operation(
            "PATCH",
            "/subscriptions/{subscriptionId}",
            "ModifyHFLTrainingSubs",
            modify,
            body=HflTrngSubPatch(),
            content_type=MERGE_PATCH,
            answers={200: HflTrngSub()},
            summary="Change an HFL training subscription",
        ),
        Operation(
            "DELETE",
            "/subscriptions/{subscriptionId}",
            "DeleteHFLTraningSubs",
            unsubscribe,
            summary="Withdraw an HFL training subscription",
        ),
    ),
)

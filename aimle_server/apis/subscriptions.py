"""The five operations that subscriptions of every kind have."""

from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web
from marshmallow import Schema

from aimle_server.procedures.subscriptions import SubscriptionManagement
from sbi.api import Call, Callback, Operation, created, no_content, ok

Find = Callable[[Call], SubscriptionManagement]


class Names(NamedTuple):
    """The operationIds."""

    create: str
    get: str
    replace: str
    modify: str
    delete: str


def subscription_operations(
    find: Find, names: Names, resource: Schema, patch: Schema, callback: Callback, what: str
) -> tuple[Operation, ...]:
    """The operations on `/subscriptions`.

    Args:
        find: the procedure behind them.
        resource, patch: the wire's types.
        callback: the notification.
        what: is subscribed to, for the document.
    """

    async def create(call: Call) -> web.Response:
        subscription_id, body = await find(call).create(call.caller, call.body)
        return created(body, f"{call.base_url}/subscriptions/{subscription_id}")

    async def get(call: Call) -> web.Response:
        return ok(await find(call).get(call.caller, call.path("subscriptionId")))

    async def replace(call: Call) -> web.Response:
        return ok(await find(call).replace(call.caller, call.path("subscriptionId"), call.body))

    async def modify(call: Call) -> web.Response:
        return ok(await find(call).modify(call.caller, call.path("subscriptionId"), call.body))

    async def delete(call: Call) -> web.Response:
        await find(call).delete(call.caller, call.path("subscriptionId"))
        return no_content()

    one = "/subscriptions/{subscriptionId}"
    changed: dict[int, Schema | None] = {200: resource, 204: None}
    return (
        Operation(
            "POST",
            "/subscriptions",
            names.create,
            create,
            body=resource,
            answers={201: resource},
            location=True,
            callback=callback,
            summary=f"Subscribe to {what}.",
        ),
        Operation("GET", one, names.get, get, answers={200: resource}, summary=f"A subscription to {what}."),
        Operation(
            "PUT",
            one,
            names.replace,
            replace,
            body=resource,
            answers=changed,
            summary="Replace a subscription.",
        ),
        Operation(
            "PATCH",
            one,
            names.modify,
            modify,
            body=patch,
            answers=changed,
            summary="Change a part of a subscription.",
        ),
        Operation("DELETE", one, names.delete, delete, summary="Unsubscribe."),
    )

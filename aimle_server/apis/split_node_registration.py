"""AIMLES_SplitOpNodeRegistration (TS 29.482; TS 23.482 8.14.2.4): nodes register, change and leave."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, created, no_content, ok
from schemas.split_node_registration import SplitOpNodeReg, SplitOpNodeRegPatch


async def register_node(call: Call) -> web.Response:
    """A new node."""
    configuration_id, node = await call[SERVICES].split_nodes.register(call.caller, call.body)
    return created(node, f"{call.base_url}/configurations/{configuration_id}")


async def get_node(call: Call) -> web.Response:
    """One node of the caller."""
    return ok(await call[SERVICES].split_nodes.get(call.caller, call.path("configurationId")))


async def replace_node(call: Call) -> web.Response:
    """Other statements of a node."""
    return ok(await call[SERVICES].split_nodes.replace(call.caller, call.path("configurationId"), call.body))


async def modify_node(call: Call) -> web.Response:
    """A JSON merge patch of a node."""
    return ok(await call[SERVICES].split_nodes.modify(call.caller, call.path("configurationId"), call.body))


async def deregister_node(call: Call) -> web.Response:
    """No node any more."""
    await call[SERVICES].split_nodes.deregister(call.caller, call.path("configurationId"))
    return no_content()


API = Api(
    name="AIMLES_SplitOpNodeRegistration",
    spec="TS 29.482",
    version="1.1.0-alpha.1",
    base_path="/aimles-sonreg/v1",
    operations=(
        Operation(
            "POST",
            "/configurations",
            "CreateAimleSplitOpNodeRegSubscription",
            register_node,
            body=SplitOpNodeReg(),
            answers={201: SplitOpNodeReg()},
            location=True,
            summary="Register a split operation node.",
        ),
        Operation(
            "GET",
            "/configurations/{configurationId}",
            "GetIndAimleSplitOpNodeRegSubscription",
            get_node,
            answers={200: SplitOpNodeReg()},
            summary="One split operation node that the caller registered.",
        ),
        Operation(
            "PUT",
            "/configurations/{configurationId}",
            "UpdateIndAimleSplitOpNodeRegSubscription",
            replace_node,
            body=SplitOpNodeReg(),
            answers={200: SplitOpNodeReg(), 204: None},
            summary="Replace what is stated of a split operation node.",
        ),
        Operation(
            "PATCH",
            "/configurations/{configurationId}",
            "ModifyIndAimleSplitOpNodeRegSubscription",
            modify_node,
            body=SplitOpNodeRegPatch(),
            answers={200: SplitOpNodeReg(), 204: None},
            summary="Change a part of what is stated of a split operation node.",
        ),
        Operation(
            "DELETE",
            "/configurations/{configurationId}",
            "UnsubscribeAimleSplitOpNodeRegSubscription",
            deregister_node,
            summary="De-register a split operation node.",
        ),
    ),
)

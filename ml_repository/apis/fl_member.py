"""MLR_FLMember (TS 29.482 6.2.4; TS 23.482 8.4.2 to 8.4.3a): FL members register, change and leave.

AIMLES_FLMember (TS 29.482 6.1.19) has the same operations.
"""

from aiohttp import web

from ml_repository.keys import FL_MEMBERS
from sbi.api import Api, Call, Operation, created, no_content, ok
from schemas.fl_member import FlMbr, FlMbrPatch


async def register_member(call: Call) -> web.Response:
    """A new member."""
    configuration_id, member = await call[FL_MEMBERS].register(call.caller, call.body)
    return created(member, f"{call.base_url}/configurations/{configuration_id}")


async def get_member(call: Call) -> web.Response:
    """One member of the caller."""
    return ok(await call[FL_MEMBERS].get(call.caller, call.path("configurationId")))


async def replace_member(call: Call) -> web.Response:
    """Other statements of a member."""
    return ok(await call[FL_MEMBERS].replace(call.caller, call.path("configurationId"), call.body))


async def modify_member(call: Call) -> web.Response:
    """A JSON merge patch of a member."""
    return ok(await call[FL_MEMBERS].modify(call.caller, call.path("configurationId"), call.body))


async def deregister_member(call: Call) -> web.Response:
    """No member any more."""
    await call[FL_MEMBERS].deregister(call.caller, call.path("configurationId"))
    return no_content()


OPERATIONS = (
    Operation(
        "POST",
        "/configurations",
        "RegisterFLMember",
        register_member,
        body=FlMbr(),
        answers={201: FlMbr()},
        location=True,
        summary="Register an FL member.",
    ),
    Operation(
        "GET",
        "/configurations/{configurationId}",
        "QueryFLMember",
        get_member,
        answers={200: FlMbr()},
        summary="One FL member that the caller registered.",
    ),
    Operation(
        "PUT",
        "/configurations/{configurationId}",
        "UpdateFLMember",
        replace_member,
        body=FlMbr(),
        answers={200: FlMbr(), 204: None},
        summary="Replace what is stated of an FL member.",
    ),
    Operation(
        "PATCH",
        "/configurations/{configurationId}",
        "ModifyPartiallyFLMember",
        modify_member,
        body=FlMbrPatch(),
        answers={200: FlMbr(), 204: None},
        summary="Change a part of what is stated of an FL member.",
    ),
    Operation(
        "DELETE",
        "/configurations/{configurationId}",
        "DeleteFLMember",
        deregister_member,
        summary="De-register an FL member.",
    ),
)

API = Api(
    name="MLR_FLMember",
    spec="TS 29.482",
    version="1.1.0-alpha.1",
    base_path="/mlr-fl/v1",
    operations=OPERATIONS,
)

"""Aimles_AIMLEClientRegistration (TS 24.560 6.3): clients register, renew and leave (TS 23.482 8.7)."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, created, no_content, ok
from schemas.client_registration import AimleClientRegInfo, AimleRegistration


async def register(call: Call) -> web.Response:
    """RegAimleClient."""
    registration_id, registration = await call[SERVICES].registration.register(call.caller, call.body)
    return created(registration, f"{call.base_url}/registrations/{registration_id}")


async def update(call: Call) -> web.Response:
    """UpdateAimleClientReg."""
    return ok(await call[SERVICES].registration.update(call.caller, call.path("registrationId"), call.body))


async def deregister(call: Call) -> web.Response:
    """DelAimleClientReg."""
    await call[SERVICES].registration.deregister(call.caller, call.path("registrationId"))
    return no_content()


API = Api(
    "Aimles_AIMLEClientRegistration",
    spec="TS 24.560",
    version="1.1.0-alpha.1",
    base_path="/aimles-client-reg/v1",
    operations=(
        Operation(
            "POST",
            "/registrations",
            "RegAimleClient",
            register,
            body=AimleClientRegInfo(),
            answers={201: AimleRegistration()},
            location=True,
            summary="Register an AIMLE client.",
        ),
        Operation(
            "PUT",
            "/registrations/{registrationId}",
            "UpdateAimleClientReg",
            update,
            body=AimleRegistration(),
            answers={200: AimleRegistration()},
            summary="Replace what an AIMLE client states, and renew its registration.",
        ),
        Operation(
            "DELETE",
            "/registrations/{registrationId}",
            "DelAimleClientReg",
            deregister,
            summary="De-register an AIMLE client.",
        ),
    ),
)

"""Aimlec_AIMLEClientParticipation (TS 24.560; TS 23.482 8.10): the server asks this client into a set."""

from aiohttp import web

from aimle_client.policy import Participation
from sbi.api import Api, Call, Operation, ok
from schemas.client_participation import AimlecParticipationReq, AimlecParticipationResp

PARTICIPATION = web.AppKey("participation", Participation)


async def participate(call: Call) -> web.Response:
    """Whether this client does as it is asked."""
    return ok(await call[PARTICIPATION].answer(call.body))


API = Api(
    name="Aimlec_AIMLEClientParticipation",
    spec="TS 24.560",
    version="1.0.2",
    base_path="/aimlec-cp/v1",
    operations=(
        Operation(
            "POST",
            "/participation",
            "ClientParticipation",
            participate,
            body=AimlecParticipationReq(),
            answers={200: AimlecParticipationResp()},
            summary="Ask the AIMLE client to join or leave a client set",
        ),
    ),
)

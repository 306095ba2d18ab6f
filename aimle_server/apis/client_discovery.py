"""AIMLES_AIMLEClientDiscovery (TS 29.482 6.1.6): which registered clients fit (TS 23.482 8.8)."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, Query, ok
from schemas.client_discovery import ClientDiscCriteria, ClientDiscResp
from schemas.common import SupportedFeatures, UintegerText


async def discover(call: Call) -> web.Response:
    """GetAimleClients."""
    return ok(
        await call[SERVICES].discovery.discover(
            call.query["filt-criteria"], call.query.get("cl-number"), call.query.get("supported-features")
        )
    )


API = Api(
    "AIMLES_AIMLEClientDiscovery",
    spec="TS 29.482",
    version="1.1.0-alpha.1",
    base_path="/aimles-disc/v1",
    operations=(
        Operation(
            "GET",
            "/clients",
            "GetAimleClients",
            discover,
            query=(
                Query("filt-criteria", schema=ClientDiscCriteria(), required=True),
                Query("cl-number", field=UintegerText()),
                Query("supported-features", field=SupportedFeatures()),
            ),
            answers={200: ClientDiscResp()},
            summary="Discover the AIMLE clients that fulfil criteria.",
        ),
    ),
)

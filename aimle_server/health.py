"""`/healthz`, `/readyz` and `/metrics`: for orchestrators and Prometheus, outside the APIs and without a token."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from aimle_server.metrics import REGISTRY
from aimle_server.presence import Presence

PRESENCE = web.AppKey("presence", Presence)


async def healthz(_request: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """The database answers as well; Unavailable (503) while it does not."""
    await request.app[PRESENCE].check()
    return web.json_response({"status": "ready"})


async def metrics(_request: web.Request) -> web.Response:
    """Everything that is counted, in Prometheus' text format."""
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


def add_health(app: web.Application, presence: Presence) -> None:
    """Add the three pages."""
    app[PRESENCE] = presence
    for page in (healthz, readyz, metrics):
        app.router.add_get(f"/{page.__name__}", page, name=page.__name__)

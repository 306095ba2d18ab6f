"""What Prometheus reads at `/metrics`: requests by operation, trainings by state, bytes taken in, channels."""

import time

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

REQUESTS = Histogram(
    "aimle_request_seconds",
    "Time to answer a request, by operationId and status.",
    ["operation", "status"],
    registry=REGISTRY,
)
TRANSITIONS = Counter(
    "aimle_training_transitions_total",
    "Trainings that came into a state, in this process.",
    ["state"],
    registry=REGISTRY,
)
UPDATE_BYTES = Counter(
    "aimle_update_bytes_total",
    "Bytes of model updates taken in from participants.",
    registry=REGISTRY,
)
CHANNELS = Gauge("aimle_channels", "WebSockets of channels that this process holds.", registry=REGISTRY)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Time each request under its operationId; what matches no route is one series, whatever its path.

    A WebSocket is no request that somebody waits for.
    """
    began = time.perf_counter()
    response = await handler(request)
    if isinstance(response, web.WebSocketResponse):
        return response
    operation = request.match_info.route.name or "none"
    REQUESTS.labels(operation, str(response.status)).observe(time.perf_counter() - began)
    return response

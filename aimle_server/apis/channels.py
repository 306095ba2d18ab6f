"""AIMLE_Channels, our extension: the way to VAL servers and UEs that nobody can call (TS 29.122 5.2.5.4).

Who asks for a channel gets two addresses: one to give to others, as `notifUri` of a subscription or `aimleClientUri` of
a registration, and one at which to open a WebSocket. What is sent to the first, or below it, comes out of the second.
"""

import asyncio

from aiohttp import web

from aimle_server.channels.channels import CHANNELS_PATH, fit_to_pass
from aimle_server.consumers.peers import FORWARDED
from aimle_server.services import SERVICES
from ml_repository.channels import ADDRESSES, StoredChannel
from sbi.api import Api, Call, Operation, created, no_content, ok
from sbi.body import read_body
from sbi.notification_frames import METHODS, Request
from schemas.channels import Channel, ChannelRequest

ANSWER_SECONDS = 30.0
"""For the answer of whoever is behind a channel."""

_REQUEST_HEADERS = ("Authorization", "Content-Type", "Content-Encoding", "Accept")


async def open_channel(call: Call) -> web.Response:
    """A new channel."""
    channel = await call[SERVICES].channels.open(call.caller, call.body)
    return created(_wire(call, channel), f"{call.base_url}/channels/{channel.id}")


async def get_channel(call: Call) -> web.Response:
    """One channel of the caller."""
    return ok(_wire(call, await call[SERVICES].channels.get(call.caller, call.path("channelId"))))


async def close_channel(call: Call) -> web.Response:
    """No channel any more; an open WebSocket is closed."""
    channel = await call[SERVICES].channels.close(call.caller, call.path("channelId"))
    call[SERVICES].sockets.end(channel.key)
    return no_content()


async def connect(call: Call) -> web.StreamResponse:
    """The WebSocket of a channel, for as long as it is open."""
    channel = await call[SERVICES].channels.get(call.caller, call.path("channelId"))
    return await call[SERVICES].sockets.serve(call.request, channel)


def _wire(call: Call, channel: StoredChannel) -> object:
    url = f"{call.base_url}/channels/{channel.id}/websocket"
    return call[SERVICES].channels.wire(channel, url.replace("http", "ws", 1))


API = Api(
    name="AIMLE_Channels",
    spec="AIMLE",
    version="1.0.0",
    base_path=CHANNELS_PATH,
    extension=True,
    operations=(
        Operation(
            "POST",
            "/channels",
            "OpenChannel",
            open_channel,
            body=ChannelRequest(),
            answers={201: Channel()},
            location=True,
            summary="Ask for a channel.",
        ),
        Operation(
            "GET",
            "/channels/{channelId}",
            "GetChannel",
            get_channel,
            answers={200: Channel()},
            summary="A channel.",
        ),
        Operation("DELETE", "/channels/{channelId}", "CloseChannel", close_channel, summary="End a channel."),
        Operation(
            "GET",
            "/channels/{channelId}/websocket",
            "ConnectChannel",
            connect,
            answers={101: None},
            summary="Open the channel's WebSocket.",
        ),
    ),
)


def add_addresses(app: web.Application) -> None:
    """Answer at the addresses of channels, which are no API of ours: whoever is behind one answers there."""
    app.router.add_route("*", f"{ADDRESSES}{{key}}{{rest:(/.*)?}}", pass_on, name="through")


async def pass_on(request: web.Request) -> web.Response:
    """A request to whoever is behind a channel, and the answer; the unguessable address is the permission."""
    if request.method not in METHODS:
        raise web.HTTPMethodNotAllowed(request.method, METHODS)
    key = request.match_info["key"]
    _, _, rest = request.rel_url.raw_path_qs.partition(f"{ADDRESSES}{key}")
    headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
    asked = Request(request.method, rest, headers, await read_body(request))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await request.app[SERVICES].sockets.request(
                key, asked, forwarded=FORWARDED in request.headers
            )
    except TimeoutError as error:
        raise web.HTTPGatewayTimeout from error
    return web.Response(status=answer.status, headers=fit_to_pass(answer.headers), body=answer.body)

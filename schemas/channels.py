"""Types of AIMLE_Channels, our extension for those that nobody can call: WebSockets as TS 29.122 5.2.5.4 has them."""

from schemas.base import Flag, Schema, nested
from schemas.common import DateTime, Uri


class WebsockNotifConfig(Schema):
    """A WebSocket instead of calls: asked for with `requestWebsocketUri`, granted with `websocketUri` (TS 29.122)."""

    websocketUri = Uri()
    requestWebsocketUri = Flag()


class ChannelRequest(Schema):
    """Ask for a channel."""

    websockNotifConfig = nested(WebsockNotifConfig, required=True)


class Channel(Schema):
    """A channel: what is sent to `notifUri`, or below it, comes out of the WebSocket at `websocketUri`.

    It is gone at `expTime` unless the WebSocket is opened before; while it is open it does not expire.
    """

    notifUri = Uri(required=True)
    websockNotifConfig = nested(WebsockNotifConfig, required=True)
    expTime = DateTime(required=True)

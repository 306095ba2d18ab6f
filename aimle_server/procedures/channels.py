"""Channels for those that nobody can call (AIMLE_Channels, in the way of TS 29.122 5.2.5.4): made, read, deleted."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ml_repository.channels import Channels, StoredChannel
from sbi.auth import Caller
from sbi.clock import Clock, to_wire
from sbi.errors import InvalidRequest, NotFound

Wire = Mapping[str, Any]

UNUSED = timedelta(minutes=10)
"""How long a new channel waits for its owner to connect."""


class ChannelManagement:
    """The channels, as their owners see them.

    Args:
        base: the address of every channel is this and its key.
        new_id: makes identifiers and keys that nobody guesses.
    """

    def __init__(self, channels: Channels, clock: Clock, new_id: Callable[[], str], base: str) -> None:
        self._channels = channels
        self._clock = clock
        self._new_id = new_id
        self._base = base

    async def open(self, caller: Caller, request: Wire) -> StoredChannel:
        """A new channel.

        Raises:
            InvalidRequest: it does not ask for a WebSocket.
        """
        if request["websockNotifConfig"].get("requestWebsocketUri") is not True:
            raise InvalidRequest.of(
                "/websockNotifConfig/requestWebsocketUri", "is not true: nothing else opens a channel"
            )
        channel = StoredChannel(self._new_id(), self._new_id(), self._clock.now() + UNUSED)
        await self._channels.add(channel, caller.subject)
        return channel

    async def get(self, caller: Caller, channel_id: str) -> StoredChannel:
        """The caller's channel.

        Raises:
            NotFound: there is none.
        """
        found = await self._channels.get(channel_id, caller.subject, self._now())
        if found is None:
            raise _not_found(channel_id)
        return found

    async def close(self, caller: Caller, channel_id: str) -> StoredChannel:
        """Delete it; as it was.

        Raises:
            NotFound: there is none.
        """
        found = await self.get(caller, channel_id)
        if not await self._channels.remove(channel_id, caller.subject, self._now()):
            raise _not_found(channel_id)
        return found

    def wire(self, channel: StoredChannel, websocket: str) -> Wire:
        """The resource; `websocket` is where its WebSocket is opened."""
        return {
            "notifUri": f"{self._base}{channel.key}",
            "websockNotifConfig": {"websocketUri": websocket, "requestWebsocketUri": True},
            "expTime": to_wire(channel.expires),
        }

    def _now(self) -> datetime:
        return self._clock.now()


def _not_found(channel_id: str) -> NotFound:
    return NotFound(f"no channel {channel_id}")

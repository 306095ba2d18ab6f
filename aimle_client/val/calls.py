"""How a VAL server's operations use the connection."""

import json
from collections.abc import Mapping
from typing import Any

from aimle_client.http import Connection
from aimle_client.listener import NotificationListener


class Calls:
    """Base of the groups of operations; `ValServer` is all of them."""

    _open: Connection | None = None

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("not connected: use `async with ValServer(...)`")
        return self._open


class ListeningCalls(Calls):
    """Base of operations that something is told of later."""

    _listener: NotificationListener | None = None

    @property
    def _listening(self) -> NotificationListener:
        if self._listener is None:
            raise RuntimeError(
                "nobody listens for what is told later: give ValServer `listen`, or `websocket`"
            )
        return self._listener


def as_query(criteria: Mapping[str, Any]) -> str:
    """Criteria as a query parameter's JSON text."""
    return json.dumps(criteria, separators=(",", ":"), allow_nan=False)

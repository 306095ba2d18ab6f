"""How a VAL server's operations use the connection."""

import json
from collections.abc import Mapping
from typing import Any

from aimle_client.http import Connection


class Calls:
    """Base of the groups of operations; `ValServer` is all of them."""

    _open: Connection | None = None

    @property
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("not connected: use `async with ValServer(...)`")
        return self._open


def as_query(criteria: Mapping[str, Any]) -> str:
    """Criteria as a query parameter's JSON text."""
    return json.dumps(criteria, separators=(",", ":"), allow_nan=False)

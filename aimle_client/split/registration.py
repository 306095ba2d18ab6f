"""A node's registrations at its AIMLE server, one for each model, renewed in time (AIMLES_SplitOpNodeRegistration)."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from aimle_client.answers import created_id
from aimle_client.errors import AimleClientError, NotFound, RequestRefused
from aimle_client.http import Connection
from sbi.clock import Clock, to_wire

_log = logging.getLogger("aimle.split")

CONFIGURATIONS = "/aimles-sonreg/v1/configurations"
VALIDITY = timedelta(minutes=1)
"""How long a node that has died is still offered: its registration is not renewed."""
_GOODBYE = 5.0
"""Seconds of real time that deregistering may take."""


class NodeRegistration:
    """What a node offers: its URI, and the models whose parts it runs.

    Args:
        models: their mlModelIds.
    """

    def __init__(self, connection: Connection, uri: str, models: Iterable[str], clock: Clock) -> None:
        self._connection = connection
        self._uri = uri
        self._clock = clock
        self._ids: dict[str, str | None] = dict.fromkeys(models)

    async def register(self) -> None:
        """Register anew, or renew what there is.

        Raises:
            AimleClientError: of any kind.
        """
        for model, identifier in self._ids.items():
            if identifier is None or not await self._renewed(identifier):
                answer = await self._connection.request("POST", CONFIGURATIONS, body=self._document(model))
                self._ids[model] = created_id(answer)

    async def keep(self) -> None:
        """Renew in time, for ever; RequestRefused when the server does not want this node any more."""
        while True:
            await self._clock.sleep(VALIDITY.total_seconds() / 3)
            try:
                await self.register()
            except AimleClientError as error:
                if isinstance(error, RequestRefused) and error.status < 500:
                    _log.error("the AIMLE server does not want this node any more: %s", error)
                    raise
                _log.warning("the registration could not be renewed: %s", error)

    async def withdraw(self) -> None:
        """Deregister; a server that cannot be told forgets the node when its registrations end."""
        try:
            async with asyncio.timeout(_GOODBYE):
                for identifier in filter(None, self._ids.values()):
                    await self._connection.request("DELETE", f"{CONFIGURATIONS}/{identifier}")
        except NotFound:
            pass  # it is gone already, which is what was wanted
        except (AimleClientError, TimeoutError) as error:
            _log.warning("could not deregister: %s", error)

    async def _renewed(self, identifier: str) -> bool:
        """Whether the server still had it."""
        try:
            await self._connection.request(
                "PATCH",
                f"{CONFIGURATIONS}/{identifier}",
                body={"timeValidity": self._validity()},
            )
        except NotFound:
            return False
        return True

    def _document(self, model: str) -> dict[str, Any]:
        """A SplitOpNodeReg."""
        info = {"modelId": model, "modelVersion": "1", "suppOperation": ["INFERENCE"]}
        return {
            "nodeInfo": {"uri": self._uri},
            "sonRegCapability": {"modelInfo": info},
            "timeValidity": self._validity(),
            "aimle": {"splitNodeUri": self._uri},
        }

    def _validity(self) -> dict[str, str]:
        now = self._clock.now()
        return {"startTime": to_wire(now), "stopTime": to_wire(now + VALIDITY)}

"""The aimlec-* APIs of AIMLE clients, as this server calls them (TS 24.560; TS 23.482 8.6, 8.10, 8.12, 8.20)."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from yarl import URL

from aimle_server.procedures.client_participation import ClientUnreachable
from sbi.api import MERGE_PATCH
from sbi.outbound import Outbound, Response, TargetRefused, TargetUnreachable

_log = logging.getLogger("aimle.clients")

RECONNECTING = 5.0
"""Seconds that a client behind a WebSocket has to open it again, where it is broken."""


class ClientRefused(ClientUnreachable):
    """The client answered, and not with success; `status` is its HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the AIMLE client answered {status}")
        self.status = status


class AimleClients:
    """Calls AIMLE clients at the address of their profile (`aimleClientUri`).

    Every method raises ClientUnreachable (of `client_participation`) where there is no usable answer within
    `timeout` seconds; where the answer is not a success, its subclass ClientRefused.
    """

    def __init__(self, outbound: Outbound, timeout: float) -> None:
        self._outbound = outbound
        self._timeout = timeout

    async def participation(self, uri: str, body: Mapping[str, Any]) -> bool:
        """Ask a client to join or leave a client set; says whether it agrees (8.10)."""
        try:
            response = await self._call(
                "POST", f"{uri.rstrip('/')}/aimlec-cp/v1/participation", body, "aimlec-cp"
            )
        except ClientRefused:
            return False
        return _json(response).get("clientStatus") is True

    async def perform(self, uri: str, body: Mapping[str, Any]) -> None:
        """Start or stop an operation at a client (8.20)."""
        await self._call("POST", f"{uri.rstrip('/')}/aimlec-serv-ops/v1/perform", body, "aimlec-serv-ops")

    async def subscribe(self, uri: str, body: Mapping[str, Any]) -> str:
        """Make an HFL training subscription at a client; returns its URI (8.12.2.1)."""
        collection = f"{uri.rstrip('/')}/aimlec-hfl-trng/v1/subscriptions"
        response = await self._call("POST", collection, body, "aimlec-hfl-trng")
        location = response.headers.get("Location")
        if not location:
            raise ClientUnreachable("the client names no subscription")
        return str(URL(collection).join(URL(location)))

    async def modify(self, subscription: str, patch: Mapping[str, Any]) -> None:
        """Change an HFL training subscription (8.12.2.2)."""
        await self._call("PATCH", subscription, patch, "aimlec-hfl-trng", MERGE_PATCH)

    async def unsubscribe(self, subscription: str) -> None:
        """Withdraw an HFL training subscription (8.12.2.3)."""
        await self._call("DELETE", subscription, None, "aimlec-hfl-trng")

    async def transfer_task(self, uri: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a client to go on with another one's task (8.6.2.2); its AimleClientTaskTransferRes, or nothing."""
        url = f"{uri.rstrip('/')}/aimlec-task-transfer/v1/request"
        response = await self._call("POST", url, body, "aimlec-task-transfer")
        return {} if response.status == 204 else _json(response)

    async def _call(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        scope: str,
        content_type: str = "application/json",
    ) -> Response:
        try:
            response = await self._outbound.request(
                method,
                url,
                json=body,
                content_type=content_type,
                timeout=self._timeout,
                scope=scope,
                wait=RECONNECTING,
            )
        except TargetRefused as error:
            _log.warning("%s is not called: %s (settings of [targets])", URL(url).origin(), error)
            raise ClientUnreachable(str(error)) from error
        except TargetUnreachable as error:
            raise ClientUnreachable(str(error)) from error
        if not 200 <= response.status < 300:
            raise ClientRefused(response.status)
        return response


def _json(response: Response) -> dict[str, Any]:
    """The answer's JSON object; ClientUnreachable for anything else."""
    try:
        body = json.loads(response.body)
    except ValueError as error:
        raise ClientUnreachable("the client's answer is not JSON") from error
    if not isinstance(body, dict):
        raise ClientUnreachable("the client's answer is not a JSON object")
    return body

"""The AI/ML service operations that servers have started on this client (TS 23.482 8.20)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sbi.errors import InvalidRequest

START, STOP = "START", "STOP"


@dataclass(frozen=True)
class Operation:
    """A started operation.

    Attributes:
        owner: subject of the token that started it; nobody else can stop it.
        request: the AimleClientServOpReq as it came: limits and hints for the application among it.
    """

    owner: str
    request: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """`servOpId`; of a VAL server's task: its taskId, a dot and what our server knows the owner by."""
        identifier: str = self.request["servOpId"]
        return identifier

    @property
    def service(self) -> str | None:
        """The VAL service it is for; None: any."""
        return self.request.get("valServiceId")

    @property
    def model_uri(self) -> str | None:
        """Where the model is (`mlMdlUri`)."""
        uri: str | None = self.request.get("servOpInfo", {}).get("mlMdlUri")
        return uri

    @property
    def aggregation_uri(self) -> str | None:
        """Where updates go (`mlMdAggregUri`)."""
        uri: str | None = self.request.get("servOpInfo", {}).get("mlMdAggregUri")
        return uri

    def is_beside(self, uri: str) -> bool:
        """Whether `uri` lies in the same folder as the aggregation address, or below it."""
        folder = (self.aggregation_uri or "").rpartition("/")[0]
        return bool(folder) and uri.startswith(folder + "/")


Listener = Callable[[str, Operation], None]
"""Told START or STOP, and which operation; a stopped one is still there while its listeners are told."""


class ServiceOperations:
    """Starts and stops; each may be repeated."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._running: dict[tuple[str, str], Operation] = {}

    def perform(self, owner: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what an AimleClientServOpReq asks; returns the AimleClientServOpResp.

        Raises:
            InvalidRequest: a mode other than START and STOP.
        """
        mode, key = request["servOpMode"], (owner, request["servOpId"])
        if mode == START:
            self._running[key] = Operation(owner, request)
            self._tell(START, self._running[key])
        elif mode == STOP:
            if operation := self._running.get(key):
                self._tell(STOP, operation)
                del self._running[key]
        else:
            raise InvalidRequest.of("/servOpMode", "START or STOP")
        response = {"servOpId": request["servOpId"], "servOpModeStatus": mode}
        if "valServiceId" in request:
            response["valServiceId"] = request["valServiceId"]
        return response

    def find(self, owner: str, service: str, notif_uri: str) -> Operation | None:
        """The operation that a subscription belongs to, None where that is not clear.

        No attribute of a subscription names its operation. They have owner and VAL service in common, and
        several of those are told apart by addresses: those of one training lie side by side.
        """
        alike = [op for op in self if op.owner == owner and op.service in (None, service)]
        found = [op for op in alike if op.is_beside(notif_uri)] or alike
        return found[0] if len(found) == 1 else None

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._running.values())

    def _tell(self, mode: str, operation: Operation) -> None:
        for listener in self.listeners:
            listener(mode, operation)

"""Client selection subscriptions (AIMLES_AIMLEClientSelection, TS 23.482 8.13): a selection that is kept."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aimle_client.errors import AimleClientError
from aimle_client.events import SelectionEvent
from aimle_client.http import Connection
from aimle_client.listener import Mailbox, NotificationListener
from aimle_client.val.calls import Calls, created_id, read
from aimle_client.val.values import Wire, given
from sbi.clock import to_wire
from schemas.client_selection import ClientSelSub

_PATH = "/aimles-sel/v1/subscriptions"


class SelectionSubscription:
    """Clients that the AIMLE server keeps selected; `ValServer.subscribe_selection` makes it.

    Attributes:
        id: of the subscription.
        clients: identifiers of those that are selected, as far as `events` has told.
    """

    def __init__(
        self,
        subscription_id: str,
        connection: Connection,
        listener: NotificationListener,
        mailbox: Mailbox[SelectionEvent],
    ) -> None:
        self.id = subscription_id
        self.clients: set[str] = set()
        self._connection = connection
        self._listener = listener
        self._mailbox = mailbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    async def events(self) -> AsyncIterator[SelectionEvent]:
        """Who comes and who goes, without an end; to be iterated over once, in one task."""
        while True:
            event = await self._mailbox.get()
            for change in event.changes:
                self.clients -= {change.replaced or ""}
                self.clients |= {change.selected} if change.selected else set()
            yield event

    async def update(self, *, criteria: Wire | None = None, num_clients: int | None = None) -> None:
        """Have others selected, or more or fewer; what is left out stays as it is.

        Raises:
            NotFound: it has expired, or was cancelled.
            RequestRefused: 400, the criteria are wrong.
        """
        patch = given(selCriteria=criteria, reqNum=num_clients)
        answer = await self._connection.request("PATCH", self._path, body=patch)
        if answer.body is not None:
            read(ClientSelSub(), answer.body)

    async def cancel(self) -> None:
        """Unsubscribe: the clients are told that they are not needed any more.

        Raises:
            NotFound: it has expired, or was cancelled before.
        """
        await self._connection.request("DELETE", self._path)
        self._listener.close(self._mailbox)

    @property
    def _path(self) -> str:
        return f"{_PATH}/{quote(self.id, safe='')}"


class SelectionOperations(Calls):
    """Operations that concern client selection subscriptions."""

    _listener: NotificationListener | None = None

    async def subscribe_selection(
        self, criteria: Wire, *, num_clients: int | None = None, expires: datetime | None = None
    ) -> SelectionSubscription:
        """Have AIMLE clients selected, and others in their place when they leave (TS 23.482 8.13).

        Args:
            criteria: `selCriteria`, a ClientDiscCriteria; see `discovery_criteria`.
            num_clients: `reqNum`, how many; None: all that fulfil the criteria.
            expires: `expTime`, until when; None: until it is cancelled.

        Raises:
            RuntimeError: nobody listens: give ValServer `listen`.
            RequestRefused: 400, the request is wrong; `invalid_params` says where.
        """
        if self._listener is None:
            raise RuntimeError("nobody listens for a subscription: give ValServer `listen`")
        mailbox = self._listener.open_selection()
        body: dict[str, Any] = given(
            selCriteria=criteria,
            reqNum=num_clients,
            expTime=expires and to_wire(expires),
            notifUri=mailbox.url,
        )
        try:
            answer = await self._connection.request("POST", _PATH, body=body)
            read(ClientSelSub(), answer.body)
            subscription_id = created_id(answer)
        except AimleClientError:
            self._listener.close(mailbox)
            raise
        return SelectionSubscription(subscription_id, self._connection, self._listener, mailbox)

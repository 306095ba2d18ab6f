"""Subscriptions: to a client selection that is kept (TS 23.482 8.13), to models (8.2.2.3), to FL events (8.5)."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from itertools import count
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from marshmallow import Schema

from aimle_client.answers import created_id, read
from aimle_client.errors import AimleClientError
from aimle_client.events import FLEvent, ModelsEvent, SelectionEvent
from aimle_client.http import Connection
from aimle_client.listener import Mailbox
from aimle_client.val.calls import ListeningCalls
from aimle_client.val.checks import known
from aimle_client.val.values import FLEvents, Reporting, Wire, given
from sbi.clock import Clock, to_wire
from schemas.client_selection import ClientSelSub
from schemas.fl_events import FlEvtsSub, FlMbrType
from schemas.model_retrieval import MLMdlRetSub

Event = TypeVar("Event")

_SELECTIONS = "/aimles-sel/v1/subscriptions"
_MODELS = "/aimles-mlmr/v1/subscriptions"
_FL_EVENTS = "/mlr-fle/v1/subscriptions"


class Subscription(Generic[Event]):
    """What the AIMLE server watches for this VAL server, until it is cancelled or expires.

    Attributes:
        id: its subscriptionId.
    """

    def __init__(
        self,
        subscription_id: str,
        collection: str,
        connection: Connection,
        mailbox: Mailbox[Event],
        close: Callable[[Mailbox[Event]], None],
        reporting: Reporting | None,
    ) -> None:
        self.id = subscription_id
        self._path = f"{collection}/{quote(subscription_id, safe='')}"
        self._connection = connection
        self._mailbox = mailbox
        self._close = close
        self._reporting = reporting or Reporting()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    async def events(self) -> AsyncIterator[Event]:
        """What is told, until the last report if there is one; to be iterated over once, in one task."""
        number = self._reporting.number
        for _ in count() if number is None else range(number):
            event = await self._mailbox.get()
            self._take(event)
            yield event
        self._close(self._mailbox)

    def _take(self, event: Event) -> None:
        """Note what an event says, before it is handed on."""

    async def cancel(self) -> None:
        """Unsubscribe.

        Raises:
            NotFound: it has ended, or was cancelled before.
        """
        await self._connection.request("DELETE", self._path)
        self._close(self._mailbox)

    async def _patch(self, patch: Mapping[str, Any]) -> None:
        await self._connection.request("PATCH", self._path, body=patch)


class SelectionSubscription(Subscription[SelectionEvent]):
    """Clients that the AIMLE server keeps selected; `ValServer.subscribe_selection` makes it.

    Attributes:
        clients: identifiers of those that are selected, as far as `events` has told.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.clients: set[str] = set()

    def _take(self, event: SelectionEvent) -> None:
        if self._reporting.periodic:  # the whole of it each time
            self.clients.clear()
        for change in event.changes:
            self.clients -= {change.replaced}
            self.clients |= {change.selected} if change.selected else set()

    async def update(self, *, criteria: Wire | None = None, num_clients: int | None = None) -> None:
        """Have others selected, or more or fewer; what is left out stays as it is.

        Raises:
            NotFound: it has expired, or was cancelled.
            RequestRefused: 400, the request is wrong.
        """
        await self._patch(given(selCriteria=criteria, reqNum=num_clients))


class ModelSubscription(Subscription[ModelsEvent]):
    """Models that meet criteria, told of as they appear; `ValServer.subscribe_models` makes it."""

    async def update(self, *, criteria: Wire) -> None:
        """Be told of others.

        Raises:
            NotFound: it has expired, or was cancelled.
            RequestRefused: 400, the request is wrong.
        """
        await self._patch({"modelSelCrit": criteria})


class FLEventSubscription(Subscription[FLEvent]):
    """What happens to FL members; `ValServer.subscribe_fl_events` makes it.

    Attributes:
        members: `flMbrId` of those that are available, as far as `events` has told.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.members: set[str] = set()

    def _take(self, event: FLEvent) -> None:
        if self._reporting.periodic:  # the whole of it each time
            self.members = {news.member for news in event.news if news.member is not None}
        for news in event.news:
            if news.member is not None and news.entering is not None:
                self.members -= {news.member}
                self.members |= {news.member} if news.entering else set()

    async def update(self, *, events: FLEvents | None = None, model: Wire | None = None) -> None:
        """Be told of other events, or of members for another model; what is left out stays as it is.

        Raises:
            NotFound: it has ended, or was cancelled.
            RequestRefused: 400, the request is wrong.
        """
        await self._patch(given(evtInfo=events and events.to_wire(), mlMdlInfo=model))


class SubscriptionOperations(ListeningCalls):
    """Operations that subscribe; each needs a listener."""

    async def subscribe_selection(
        self,
        criteria: Wire,
        *,
        num_clients: int | None = None,
        expires: datetime | None = None,
        reporting: Reporting | None = None,
    ) -> SelectionSubscription:
        """Have AIMLE clients selected, and others in their place when they leave (TS 23.482 8.13).

        Args:
            criteria: `selCriteria`, a ClientDiscCriteria; see `discovery_criteria`.
            num_clients: `reqNum`, how many; None: all that fulfil the criteria.
            expires: `expTime`, until when; None: until it is cancelled.
            reporting: when it tells what; None: of changes, as they come.

        Raises:
            RuntimeError: nobody listens: give ValServer `listen`.
            RequestRefused: 400, the request is wrong; `invalid_params` says where.
        """
        mailbox = self._listening.open_selection()
        body = given(selCriteria=criteria, reqNum=num_clients)
        made = await self._subscribe(_SELECTIONS, ClientSelSub(), body, mailbox, expires, reporting)
        return SelectionSubscription(
            made, _SELECTIONS, self._connection, mailbox, self._listening.close, reporting
        )

    async def subscribe_models(
        self,
        criteria: Wire | None = None,
        *,
        expires: datetime | None = None,
        reporting: Reporting | None = None,
    ) -> ModelSubscription:
        """Be told of models that this VAL server may have, as they appear, change or improve (TS 23.482 8.2.2.3).

        Args:
            criteria: `modelSelCrit`, an MLModel; see `model_criteria`; None: any.
            expires: `expTime`, until when; None: until it is cancelled.
            reporting: when it tells what; None: of models that are news, as they come.

        Raises:
            RuntimeError, RequestRefused: as for `subscribe_selection`.
        """
        mailbox = self._listening.open_models()
        body = given(modelSelCrit=criteria)
        made = await self._subscribe(_MODELS, MLMdlRetSub(), body, mailbox, expires, reporting)
        return ModelSubscription(made, _MODELS, self._connection, mailbox, self._listening.close, reporting)

    async def subscribe_fl_events(
        self,
        model: Wire,
        *,
        until: datetime,
        since: datetime | None = None,
        member: str | None = None,
        member_type: str | None = None,
        events: FLEvents | None = None,
        reporting: Reporting | None = None,
    ) -> FLEventSubscription:
        """Be told of FL members that come, change and go, of their models and loads (TS 23.482 8.5).

        Args:
            model: `mlMdlInfo`, an MLModel that they are to train; see `model_criteria`.
            until, since: `timeValidity`, in which one is told; without `since` from now on.
            member: `flMbrId`, one member.
            member_type: FL_CLIENT or FL_SERVER; without this and `member` it is FL_CLIENT.
            events: which; None: all.
            reporting: when it tells what; None: of news, as they come.

        Raises:
            ValueError: there is no such type.
            RuntimeError, RequestRefused: as for `subscribe_selection`.
        """
        kind = member_type if member or member_type else "FL_CLIENT"
        known("member_type", kind, FlMbrType)
        mailbox = self._listening.open_fl_events()
        body = {
            "flMbrInfo": given(flMbrId=member, flMbrType=kind),
            "mlMdlInfo": model,
            "evtInfo": (events or FLEvents()).to_wire(),
            "timeValidity": {"startTime": to_wire(since or Clock().now()), "stopTime": to_wire(until)},
        }
        made = await self._subscribe(_FL_EVENTS, FlEvtsSub(), body, mailbox, None, reporting)
        return FLEventSubscription(
            made, _FL_EVENTS, self._connection, mailbox, self._listening.close, reporting
        )

    async def _subscribe(
        self,
        collection: str,
        schema: Schema,
        body: dict[str, Any],
        mailbox: Mailbox[Any],
        expires: datetime | None,
        reporting: Reporting | None,
    ) -> str:
        """The new subscription's id."""
        aimle = reporting and {"reportReq": reporting.to_wire()}
        whole = body | given(expTime=expires and to_wire(expires), notifUri=mailbox.url, aimle=aimle)
        try:
            answer = await self._connection.request("POST", collection, body=whole)
            read(schema, answer.body)
            return created_id(answer)
        except AimleClientError:
            self._listening.close(mailbox)
            raise

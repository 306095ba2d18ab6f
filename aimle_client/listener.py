"""Where a VAL server is told of what it asked for: a small HTTP server inside the application.

Each training (TS 23.482 8.3.3.3) and each subscription (8.2, 8.5, 8.13) gets an address of its own that nobody guesses;
it goes out as the `notifUri` of the request and is all the permission that a notification needs. The AIMLE server
delivers in order and at least once: the same notification twice in a row is one notification whose answer was lost,
and is dropped, except of models, which can change twice. An application that does not keep up gets no more: the
AIMLE server is told to come again.
"""

import asyncio
import ipaddress
import secrets
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

from aiohttp import web

from aimle_client.addresses import api_root
from aimle_client.events import (
    FLEvent,
    ModelsEvent,
    PipelineEvent,
    PipelineNotification,
    SelectionEvent,
    TrainingEvent,
    TrainingNotification,
)
from sbi.api import Api, Call, Operation, no_content
from sbi.body import AS_SENT
from sbi.errors import NotFound, Unavailable
from sbi.mount import PUBLIC_URL, mount
from sbi.problems import problem_middleware
from schemas.client_selection import ClientSelNotif
from schemas.fl_events import FlEvtsNotif
from schemas.model_retrieval import MlMdlRetNotif

Event = TypeVar("Event")

CAPACITY = 256
"""Notifications of one training or subscription that wait for the application at most."""

_COME_AGAIN = 5


class Mailbox(Generic[Event]):
    """The notifications to one address, from the listener to whoever iterates over them.

    Args:
        url: where they are to be sent; a secret.
        read: makes an event of a valid notification.
        ends: whether an event is the last one.
        repeats: one that equals the one before may be another one.
        capacity: how many wait at most.

    Attributes:
        ended: the last one has come.
    """

    def __init__(
        self,
        url: str,
        read: Callable[[Mapping[str, Any]], Event],
        ends: Callable[[Event], bool],
        *,
        repeats: bool = False,
        capacity: int = CAPACITY,
    ) -> None:
        self.url = url
        self.ended = False
        self._read = read
        self._ends = ends
        self._repeats = repeats
        self._events: asyncio.Queue[Event] = asyncio.Queue(capacity)
        self._last: Any = None

    def put(self, body: dict[str, Any]) -> None:
        """Take a notification, unless it repeats the one before or the last one has come.

        Raises:
            Unavailable: there is no room; the sender is to come again.
        """
        if self.ended or (body == self._last and not self._repeats):
            return
        event = self._read(body)
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            raise Unavailable("earlier notifications are not read yet", retry_after=_COME_AGAIN) from None
        self._last = body
        self.ended = self._ends(event)

    async def get(self) -> Event:
        """The next event, as soon as there is one."""
        return await self._events.get()

    @property
    def empty(self) -> bool:
        """Whether `get` would wait."""
        return self._events.empty()


class NotificationListener:
    """The HTTP server: `async with NotificationListener(("0.0.0.0", 9000), "https://val.example.com") as it:`.

    Args:
        listen: address and port to listen on; port 0: any free one.
        callback_url: apiRoot under which the AIMLE server reaches the listener, where that is not what `listen`
            says: behind NAT or a reverse proxy.
        tls: for HTTPS; None: plain HTTP.

    Attributes:
        url: apiRoot under which it is reached; the addresses of mailboxes begin with it.

    Raises:
        ValueError: it listens on a wildcard address, which nobody can call, and has no `callback_url`; or
            that is not an http or https address.
    """

    def __init__(
        self, listen: tuple[str, int], callback_url: str = "", *, tls: ssl.SSLContext | None = None
    ) -> None:
        if not callback_url and _is_wildcard(listen[0]):
            raise ValueError(f"callback_url: needed when listening on {listen[0]}, which nobody can call")
        self.url = self._callback_url = callback_url and api_root("callback_url", callback_url)
        self._listen = listen
        self._tls = tls
        self._mailboxes: dict[str, Mailbox[Any]] = {}

    @property
    def own_url(self) -> str:
        """apiRoot at which it listens, whatever others are told."""
        host, port = self._listen[0], self._runner.addresses[0][1]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def open(self) -> Mailbox[TrainingEvent]:
        """A mailbox for a training, with an address that was never used before."""
        return self._open("trainings", TrainingEvent.from_wire, lambda event: event.terminal)

    def open_selection(self) -> Mailbox[SelectionEvent]:
        """The same for a client selection subscription, whose notifications have no end."""
        return self._open("selections", SelectionEvent.from_wire, lambda _: False)

    def open_models(self) -> Mailbox[ModelsEvent]:
        """The same for a subscription to models."""
        return self._open("models", ModelsEvent.from_wire, lambda _: False, repeats=True)

    def open_pipeline(self) -> Mailbox[PipelineEvent]:
        """The same for a pipeline."""
        return self._open("pipelines", PipelineEvent.from_wire, lambda _: False)

    def open_fl_events(self) -> Mailbox[FLEvent]:
        """The same for a subscription to FL events."""
        return self._open("fl-events", FLEvent.from_wire, lambda _: False)

    def _open(
        self,
        what: str,
        read: Callable[[Mapping[str, Any]], Event],
        ends: Callable[[Event], bool],
        **options: Any,
    ) -> Mailbox[Event]:
        key = secrets.token_urlsafe(32)
        mailbox = Mailbox(f"{self.url}{API.base_path}/{what}/{key}", read, ends, **options)
        self._mailboxes[key] = mailbox
        return mailbox

    def close(self, mailbox: Mailbox[Any]) -> None:
        """Notifications to this mailbox's address find nobody from now on."""
        self._mailboxes.pop(mailbox.url.rpartition("/")[2], None)

    def find(self, key: str) -> Mailbox[Any]:
        """The mailbox with this key.

        Raises:
            NotFound: there is none (any more).
        """
        mailbox = self._mailboxes.get(key)
        if mailbox is None:
            raise NotFound("nobody waits for notifications here")
        return mailbox

    async def __aenter__(self) -> Self:
        # Without the access log: it would show the addresses.
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1, **AS_SENT)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self._listen, ssl_context=self._tls).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.url = self._callback_url or self.own_url
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[problem_middleware])
        app[PUBLIC_URL] = self.url
        app[LISTENER] = self
        mount(app, [API])
        return app


LISTENER = web.AppKey("listener", NotificationListener)


async def receive(call: Call) -> web.Response:
    """News for a mailbox."""
    call[LISTENER].find(call.path("key")).put(call.body)
    return no_content()


API = Api(
    name="Notifications",
    spec="AIMLE",
    version="1.0.0",
    base_path="/aimle-notifications/v1",
    extension=True,
    operations=(
        Operation(
            "POST",
            "/trainings/{key}",
            "NotifyTraining",
            receive,
            body=TrainingNotification(),
            capability=True,
            summary="News of a training: MlModelTrainNotif.",
        ),
        Operation(
            "POST",
            "/selections/{key}",
            "NotifySelection",
            receive,
            body=ClientSelNotif(),
            capability=True,
            summary="News of selected clients: ClientSelNotif.",
        ),
        Operation(
            "POST",
            "/models/{key}",
            "NotifyModels",
            receive,
            body=MlMdlRetNotif(),
            capability=True,
            summary="News of models: MlMdlRetNotif.",
        ),
        Operation(
            "POST",
            "/pipelines/{key}",
            "NotifyPipeline",
            receive,
            body=PipelineNotification(),
            capability=True,
            summary="News of a pipeline: SplitOpEventNotif.",
        ),
        Operation(
            "POST",
            "/fl-events/{key}",
            "NotifyFLEvents",
            receive,
            body=FlEvtsNotif(),
            capability=True,
            summary="News of FL members: FlEvtsNotif.",
        ),
    ),
)


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host

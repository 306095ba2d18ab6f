"""An AIMLE client on a UE: serves the aimlec-* APIs, trains on local data (TS 23.482 8.6, 8.7, 8.10, 8.12, 8.20).

    client = AimleClient(
        "ue-7",
        server="https://aimle.example.com",
        credentials=ClientCredentials("ue-7", secret),
        services=["val-vision"],
        datasets={"digits": trainer},
        listen=("0.0.0.0", 9007),
        public_url="http://ue-7.example.com:9007",
    )
    async with client:
        await client.run_forever()

What the client knows is in memory: after a restart it registers anew, and its server subscribes anew.
"""

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from aimle_client.access import Access
from aimle_client.addresses import api_root
from aimle_client.apis import APIS
from aimle_client.apis.hfl_training import SUBSCRIPTIONS
from aimle_client.apis.participation import PARTICIPATION
from aimle_client.apis.service_operations import SERVICE_OPERATIONS
from aimle_client.apis.task_transfer import STATE_SPOOL, TAKEOVERS
from aimle_client.channel import Channel
from aimle_client.http import ClientCredentials, Connection, RetryPolicy
from aimle_client.policy import DefaultPolicy, Participation, Policy
from aimle_client.runtime.giving import Giving, Transferred
from aimle_client.runtime.keeping import Keeping
from aimle_client.runtime.operations import Operation, ServiceOperations
from aimle_client.runtime.profile import DatasetOffer, registration_document
from aimle_client.runtime.registration import Registration
from aimle_client.runtime.report import Outcome, RoundReport
from aimle_client.runtime.rounds import Rounds
from aimle_client.runtime.subscriptions import Subscriptions
from aimle_client.runtime.takeover import Takeovers
from aimle_client.trainers.base import Trainer
from aimle_client.transfer import MAX_BYTES
from aimle_client.trust import Trust, authenticator
from sbi.auth import Authenticator
from sbi.body import AS_SENT
from sbi.clock import Clock
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.problems import problem_middleware
from sbi.spool import Spool

__all__ = [
    "AimleClient",
    "ClientCredentials",
    "DatasetOffer",
    "DefaultPolicy",
    "Operation",
    "Outcome",
    "Policy",
    "RoundReport",
    "Status",
    "Transferred",
    "Trust",
]

_log = logging.getLogger("aimle.client")


@dataclass(frozen=True)
class Status:
    """What a client is doing at the moment.

    Attributes:
        uri: apiRoot under which it is reached.
        registration_id: at its server; None: not registered.
        expires: end of the registration; None: not registered, or without an end.
        client_sets: those it has joined.
        operations: `servOpId` of those that are started.
        subscriptions: `subId` of those it has.
        busy: whether a round is under way.
    """

    uri: str
    registration_id: str | None
    expires: datetime | None
    client_sets: frozenset[str]
    operations: tuple[str, ...]
    subscriptions: tuple[str, ...]
    busy: bool


class AimleClient:
    """One AIMLE client, running inside `async with`.

    Entering registers it, and raises AimleClientError if that fails; leaving deregisters it. A client identifier is
    for one process at a time: a second one that registers with it takes the first one's place.

    When a round fails here, because the trainer raises or a transfer fails, the server is told the reason in words:
    the error's, cut after 200 characters and without paths.

    Args:
        client_id: VAL UE identifier, and by convention its OAuth 2.0 client identifier.
        server: apiRoot of its AIMLE server.
        services: VAL services that it works for; a mapping gives each its `servPermLevel`.
        datasets: data set identifiers and what trains on them; at least one.
        credentials: for tokens at the server; None: it calls without tokens.
        listen: address and port of its own APIs; port 0: any free one.
        public_url: apiRoot under which the server reaches it; empty: as `listen` says.
        websocket: nobody can call it, it is behind a NAT: it opens a WebSocket, over which the server reaches it.
        profile: merge patch (RFC 7396) on the AimleClientProfile that comes of the rest.
        policy: decides on participation; None: DefaultPolicy.
        trust: whose tokens open its APIs.
        insecure_no_auth: open them to everybody; for trials on one machine.
        token_url: token endpoint; empty: the server's.
        tls: for its own APIs; None: plain HTTP.
        ca_file: PEM file of the CAs whose certificates are taken from the server, and no others; None: those
            that the system trusts, or that the environment variable SSL_CERT_FILE names when Python starts.
        retry: patience with the server.
        deposit_every: seconds between two copies of a training's state that are left at the server, from which another
            client can go on should this one disappear; None: none are left. Needs a resumable trainer.

    Raises:
        TypeError: `services` is one text, or a trainer has no `fit` or `evaluate`.
        ValueError: there is no data set; an address does not begin with http:// or https:// and a host;
            `listen` is a wildcard address, and there is no `public_url`; `websocket` goes with neither a `public_url`
            nor `tls`; `ca_file` cannot be read.
    """

    def __init__(
        self,
        client_id: str,
        server: str,
        *,
        services: Iterable[str] | Mapping[str, str],
        datasets: Mapping[str, Trainer | DatasetOffer],
        credentials: ClientCredentials | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        public_url: str = "",
        websocket: bool = False,
        profile: Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        trust: Trust | None = None,
        insecure_no_auth: bool = False,
        token_url: str = "",
        tls: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        retry: RetryPolicy | None = None,
        deposit_every: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        if websocket and (public_url or tls):
            raise ValueError("websocket: public_url and tls are for a client that is called")
        if not public_url and _is_any(listen[0]):
            raise ValueError(f"public_url: needed when listening on {listen[0]}, which nobody can call")
        if isinstance(services, str):
            raise TypeError(f"services: a list of them is needed, as in [{services!r}]")
        if not datasets:
            raise ValueError("datasets: a client without any takes part in nothing")
        self.client_id = client_id
        self.policy = policy or DefaultPolicy(frozenset(datasets), frozenset(services))
        self._services = dict(services) if isinstance(services, Mapping) else list(services)
        self._datasets = {name: _offer(name, offered) for name, offered in datasets.items()}
        self._listen = listen
        self._uri = public_url and api_root("public_url", public_url)
        self._websocket = websocket
        self._profile = profile
        self._trust = None if insecure_no_auth else trust or Trust()
        self._tls = tls
        self._deposit_every = deposit_every
        self._clock = clock or Clock()
        self._access = Access(
            server, credentials, token_url=token_url, ca_file=ca_file, retry=retry, clock=self._clock
        )
        self._participation = Participation(self.policy)
        self._operations = ServiceOperations()
        self._round_listeners: list[Callable[[RoundReport], None]] = []

    def on_round(self, listener: Callable[[RoundReport], None]) -> None:
        """Call `listener` on the event loop whenever a round has ended here."""
        self._round_listeners.append(_guarded(listener))

    def on_operation(self, listener: Callable[[str, Operation], None]) -> None:
        """Call `listener` with START or STOP whenever the server does that to an operation."""
        self._operations.listeners.append(_guarded(listener))

    @property
    def status(self) -> Status:
        """What the client is doing now; only inside `async with`."""
        subscriptions = list(self._subscriptions)
        return Status(
            self._uri,
            self._registration.id,
            self._registration.expires,
            frozenset(self._participation.client_sets),
            tuple(operation.id for operation in self._operations),
            tuple(subscription.id for subscription in subscriptions),
            any(subscription.busy for subscription in subscriptions),
        )

    async def transfer(
        self,
        dataset: str | None = None,
        *,
        target: str | None = None,
        direct: bool = True,
        validity: timedelta | None = None,
        reason: str = "",
    ) -> Transferred:
        """Have another client go on with the training that is under way here (TS 23.482 8.6).

        When this returns, the other client has the task, and its report counts in this one's place. When it raises,
        the training goes on here where it stood: the task is still this client's. Only where the server does not
        answer any more it may be the other one's; then this one's report is refused as late.

        Args:
            dataset: of the training; None: the only one that is under way.
            target: the client to take it over; None: whom the server finds.
            direct: whether to bring the state to the target itself where that is possible; else by the server.
            validity: how long the request is valid; None: as long as the server says.
            reason: for the training's history.

        Raises:
            NothingToTransfer: no training is under way that can be moved. AimleClientError: it did not work.
        """
        return await self._keeping.give(
            dataset, target=target, direct=direct, validity=validity, reason=reason
        )

    async def run_forever(self) -> None:
        """Return when the client is left; RequestRefused when the server does not want it any more."""
        ended, _ = await asyncio.wait(self._kept, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled():
                task.result()

    async def __aenter__(self) -> Self:
        self._kept: list[asyncio.Task[None]] = []
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._access.open())
            await self._serve(stack, connection)
            await self._register(stack, connection)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, stack: AsyncExitStack, connection: Connection) -> None:
        """Open the aimlec-* APIs; on the way out rounds end before the port closes."""
        trainers = {name: offer.trainer for name, offer in self._datasets.items()}
        takeovers = Takeovers(self.policy, trainers, self._clock, reachable=not self._websocket)
        giving = Giving(connection, self.client_id, self._clock)
        self._keeping = Keeping(connection, giving, self.policy, self._clock, self._deposit_every)
        rounds = Rounds(
            connection, trainers, self._clock, self._round_listeners, takeovers, self._keeping.watch
        )
        self._keeping.tasks = rounds.tasks
        stack.callback(rounds.close)
        channel = Channel(connection) if self._websocket else None
        if channel:
            await channel.open()
            self._uri = channel.url
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aimle-client-"))
        app = self._application(connection, rounds)
        app[TAKEOVERS] = takeovers
        app[STATE_SPOOL] = Spool(Path(folder) / "states", MAX_BYTES)
        runner = web.AppRunner(app, shutdown_timeout=5, **AS_SENT)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, *self._listen, ssl_context=self._tls).start()
        stack.push_async_callback(self._subscriptions.close)
        own = f"{'https' if self._tls else 'http'}://{_bracketed(self._listen[0])}:{runner.addresses[0][1]}"
        self._uri = self._uri or own
        if channel:
            self._kept.append(await channel.connect(own))
            stack.push_async_callback(channel.close)

    def _application(self, connection: Connection, rounds: Rounds) -> web.Application:
        self._subscriptions = Subscriptions(
            self._datasets, self._operations, rounds.run, self._clock, lambda: secrets.token_urlsafe(16)
        )
        app = web.Application(middlewares=[problem_middleware])
        app[AUTHENTICATOR] = self._authenticator(connection)
        app[PUBLIC_URL] = self._uri
        app[PARTICIPATION] = self._participation
        app[SERVICE_OPERATIONS] = self._operations
        app[SUBSCRIPTIONS] = self._subscriptions
        mount(app, APIS)
        return app

    def _authenticator(self, connection: Connection) -> Authenticator:
        if self._trust is None:
            _log.warning("the APIs of this client are open to everybody: insecure_no_auth")
        return authenticator(self._trust, connection, self._clock)

    async def _register(self, stack: AsyncExitStack, connection: Connection) -> None:
        document = registration_document(
            self.client_id, self._uri, self._services, self._datasets, self._profile
        )
        self._registration = Registration(connection, document, self._clock)
        stack.push_async_callback(self._registration.withdraw)
        await self._registration.register()
        keeper = asyncio.create_task(self._registration.keep())
        self._kept.append(keeper)
        stack.push_async_callback(_end, keeper)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it; an error it ended with was for `run_forever`."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _guarded(listener: Callable[..., None]) -> Callable[..., None]:
    """An application's callback that cannot hurt the client: what it raises is logged."""

    def call(*args: Any) -> None:
        try:
            listener(*args)
        except Exception:
            _log.exception("a listener of the application failed")

    return call


def _offer(name: str, offered: Trainer | DatasetOffer) -> DatasetOffer:
    offer = offered if isinstance(offered, DatasetOffer) else DatasetOffer(offered)
    for method in ("fit", "evaluate"):
        if not callable(getattr(offer.trainer, method, None)):
            kind = type(offer.trainer).__name__
            raise TypeError(f"datasets[{name!r}]: a trainer has fit and evaluate; {kind} has no {method}")
    return offer


def _is_any(host: str) -> bool:
    """Whether `host` is a wildcard address, which can be listened on and not called."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

"""The VAL server's client of an AIMLE server: opens the connection, and the listener if one is wanted."""

import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from aimle_client.access import Access
from aimle_client.channel import Channel
from aimle_client.http import ClientCredentials, RetryPolicy
from aimle_client.listener import NotificationListener
from aimle_client.val.fl_members import FLMemberOperations
from aimle_client.val.model_files import ModelFiles
from aimle_client.val.models import ModelOperations
from aimle_client.val.pipelines import PipelineOperations
from aimle_client.val.storages import StorageOperations
from aimle_client.val.subscriptions import SubscriptionOperations
from aimle_client.val.trainings import TrainingOperations
from sbi.clock import Clock


class ValServer(
    TrainingOperations,
    SubscriptionOperations,
    PipelineOperations,
    ModelOperations,
    StorageOperations,
    FLMemberOperations,
):
    """A VAL server at one AIMLE server, inside `async with`; see the package for an example.

    Every operation raises the errors of `aimle_client.errors`: RequestRefused and its kinds for a refusal,
    ServerUnavailable when nobody answers, UnexpectedAnswer when the answer is not of its API. A request is
    repeated only if that does no harm: it is idempotent, or surely was not processed.

    Args:
        server: apiRoot of the AIMLE server.
        credentials: for tokens; None: it calls without.
        listen: address and port on which notifications are taken; port 0: any free one; None: none are, and
            `Training.wait` asks instead.
        callback_url: apiRoot under which the AIMLE server reaches the listener; empty: as `listen` says.
        websocket: nobody can call it, it is behind a NAT: notifications come over a WebSocket that it opens.
        token_url: token endpoint; empty: the AIMLE server's.
        tls: for the listener; None: plain HTTP.
        ca_file: PEM file of the CAs whose certificates are taken from the AIMLE server, and no others; None:
            those that the system trusts, or that the environment variable SSL_CERT_FILE names when Python starts.
        retry: patience with the AIMLE server.
        clock: tells the time.

    Raises:
        ValueError: an address does not begin with http:// or https:// and a host; `listen` is a wildcard
            address, and there is no `callback_url`; `websocket` goes with neither `listen` nor `callback_url` nor
            `tls`; `ca_file` cannot be read.
    """

    def __init__(
        self,
        server: str,
        credentials: ClientCredentials | None = None,
        *,
        listen: tuple[str, int] | None = None,
        callback_url: str = "",
        websocket: bool = False,
        token_url: str = "",
        tls: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        if websocket and (listen or callback_url or tls):
            raise ValueError("websocket: listen, callback_url and tls are for a VAL server that is called")
        if websocket:
            listen = ("127.0.0.1", 0)
        self._credentials = credentials
        self._websocket = websocket
        self._listener = None if listen is None else NotificationListener(listen, callback_url, tls=tls)
        self._retry = retry
        self._clock = clock or Clock()
        self._access = Access(
            server, credentials, token_url=token_url, ca_file=ca_file, retry=retry, clock=self._clock
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._listener is not None:
                await stack.enter_async_context(self._listener)
            self._open = await stack.enter_async_context(self._access.open())
            if self._websocket and self._listener is not None:
                await self._listen_behind(Channel(self._open), self._listener, stack)
            self._files = ModelFiles(self._open, self._retry, self._clock)
            self._stack = stack.pop_all()
        return self

    async def _listen_behind(
        self, channel: Channel, listener: NotificationListener, stack: AsyncExitStack
    ) -> None:
        await channel.open()
        listener.url = channel.url
        await channel.connect(listener.own_url)
        stack.push_async_callback(channel.close)

    async def __aexit__(self, *_: object) -> None:
        self._open = None
        await self._stack.aclose()

"""A node of split operation pipelines: it runs parts of neural networks for the AIMLE server (TS 23.482 8.14).

    node = ProcessingNode(
        server="https://aimle.example.com",
        credentials=ClientCredentials("edge-1", secret),
        models=["digits"],
        listen=("0.0.0.0", 9007),
        public_url="http://edge-1.example.com:9007",
    )
    async with node:
        await node.run_forever()

Needs the extra `split`. Nodes behind a NAT are not reached: others open connections to them.
"""

import asyncio
import logging
import ssl
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from aiohttp import web

from aimle_client.access import Access
from aimle_client.addresses import api_root
from aimle_client.apis.split_node import API, RUNTIME
from aimle_client.http import ClientCredentials, Connection, RetryPolicy
from aimle_client.split.emulation import REAL, Emulation
from aimle_client.split.registration import NodeRegistration
from aimle_client.split.runtime import NodeRuntime
from aimle_client.split.tasks import end
from aimle_client.transfer import fetch_with_token
from aimle_client.trust import Trust, authenticator
from sbi.auth import Authenticator
from sbi.body import AS_SENT
from sbi.clock import Clock
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.problems import problem_middleware

_log = logging.getLogger("aimle.split")


class ProcessingNode:
    """One node, running inside `async with`. Entering registers it; leaving deregisters it and ends its stages.

    Args:
        server: apiRoot of its AIMLE server.
        models: mlModelIds of the models whose parts it runs; without any it registers nowhere.
        credentials: for tokens at the server; None: it calls without tokens.
        listen: address and port of its API; port 0: any free one.
        public_url: apiRoot under which the server and other nodes reach it; empty: as `listen` says.
        threads: how many compute a part.
        emulation: how slow it acts, for demonstrations on one machine.
        trust: whose tokens open its API.
        insecure_no_auth: open it to everybody; for trials on one machine.
        token_url, ca_file, retry: as of AimleClient.
        tls: for its own API; None: plain HTTP.

    Raises:
        ValueError: an address does not begin with http:// or https:// and a host; `ca_file` cannot be read.
    """

    def __init__(
        self,
        server: str,
        *,
        models: Iterable[str] = (),
        credentials: ClientCredentials | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        public_url: str = "",
        threads: int = 1,
        emulation: Emulation = REAL,
        trust: Trust | None = None,
        insecure_no_auth: bool = False,
        token_url: str = "",
        tls: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.uri = public_url and api_root("public_url", public_url)
        self._models = list(models)
        self._listen = listen
        self._threads, self._emulation = threads, emulation
        self._trust = None if insecure_no_auth else trust or Trust()
        self._tls = tls
        self._clock = clock or Clock()
        self._access = Access(
            server, credentials, token_url=token_url, ca_file=ca_file, retry=retry, clock=self._clock
        )

    async def run_forever(self) -> None:
        """Return when the node is left; RequestRefused when the server does not want it any more."""
        await asyncio.wait([self._keeping])
        if not self._keeping.cancelled():
            self._keeping.result()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._access.open())
            await self._serve(stack, connection)
            await self._register(stack, connection)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, stack: AsyncExitStack, connection: Connection) -> None:
        runtime = NodeRuntime(
            connection.session,
            lambda url: fetch_with_token(connection, url, self._clock),
            threads=self._threads,
            emulation=self._emulation,
            clock=self._clock,
        )
        app = web.Application(middlewares=[problem_middleware])
        app[AUTHENTICATOR] = self._authenticator(connection)
        app[PUBLIC_URL] = self.uri
        app[RUNTIME] = runtime
        mount(app, [API])
        # Without the access log: addresses of stages are secrets.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, **AS_SENT)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, *self._listen, ssl_context=self._tls).start()
        stack.push_async_callback(runtime.close)
        if not self.uri:
            scheme, (host, port) = "https" if self._tls else "http", runner.addresses[0][:2]
            self.uri = f"{scheme}://{host}:{port}"

    def _authenticator(self, connection: Connection) -> Authenticator:
        if self._trust is None:
            _log.warning("the API of this node is open to everybody: insecure_no_auth")
        return authenticator(self._trust, connection, self._clock)

    async def _register(self, stack: AsyncExitStack, connection: Connection) -> None:
        registration = NodeRegistration(connection, self.uri, self._models, self._clock)
        stack.push_async_callback(registration.withdraw)
        await registration.register()
        self._keeping = asyncio.create_task(registration.keep())
        stack.push_async_callback(end, self._keeping)

"""For the tests of applications: a real AIMLE server inside the test's own process.

    async with running_server({"hfl.round_timeout": 5.0}, clients=["val-1", "ue-1"]) as server:
        async with ValServer(server.url, server.credentials["val-1"], listen=("127.0.0.1", 0)) as val:
            ...

Needs the server package, and its extra `embedded` unless a database is given (`database.url`). Everything is on
loopback and gone when the block ends, except what is in a database that was given.
"""

import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from aimle_client.http import ClientCredentials
from sbi.body import AS_SENT
from sbi.clock import Clock

if TYPE_CHECKING:
    from aimle_server.procedures.external import External
    from aimle_server.settings import Settings


@dataclass(frozen=True)
class RunningServer:
    """An AIMLE server that answers.

    Attributes:
        url: its apiRoot.
        credentials: of the clients that were asked for, by client identifier; empty: it takes every request.
    """

    url: str
    credentials: Mapping[str, ClientCredentials] = field(default_factory=dict)


@asynccontextmanager
async def running_server(
    settings: Mapping[str, Any] | None = None,
    *,
    clients: Iterable[str] = (),
    clock: Clock | None = None,
    external: "External | None" = None,
) -> AsyncIterator[RunningServer]:
    """A server for the time of the block.

    Args:
        settings: by dotted name as in the server's documentation, `{"hfl.round_timeout": 5.0}`.
        clients: OAuth 2.0 clients to make, each for all scopes. With some, the server asks for tokens; without,
            every request is taken.
        clock: tells the server's time; a test may pass one that it moves.
        external: the systems that the server asks where clients are; without them it knows what clients state.

    Raises:
        SettingsError: a setting has no such value; TypeError: there is no such setting.
    """
    names = list(clients)
    with tempfile.TemporaryDirectory(prefix="aimle-server-") as folder, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        defaults = {
            "server.port": listener.getsockname()[1],
            "server.data_dir": folder,
            "server.shutdown_timeout": 1.0,
            "auth.insecure_no_auth": not names,
            "targets.allow": ("127.0.0.0/8", "::1/128"),
            "outbox.backoff": 0.1,
            "outbox.backoff_max": 1.0,
        }
        async with _serving(_settings(defaults, settings or {}), listener, clock, external) as built:
            credentials = await _make_clients(built, names)
            yield RunningServer(built.api_root, credentials)


@asynccontextmanager
async def _serving(
    settings: "Settings", listener: socket.socket, clock: Clock | None, external: "External | None"
) -> AsyncIterator["Settings"]:
    from aimle_server.app import build_app

    runner = web.AppRunner(
        await build_app(settings, clock, external),
        access_log=None,
        shutdown_timeout=settings.server.shutdown_timeout,
        **AS_SENT,
    )
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield settings
    finally:
        await runner.cleanup()


def _settings(*sources: Mapping[str, Any]) -> "Settings":
    from aimle_server.configuration import build, keys_of
    from aimle_server.settings import Settings

    unknown = {name for source in sources for name in source} - keys_of(Settings).keys()
    if unknown:
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
    return build(Settings, *sources)


async def _make_clients(settings: "Settings", names: Iterable[str]) -> dict[str, ClientCredentials]:
    """Clients of the built-in issuer, for every scope that there is."""
    if not names:
        return {}
    from aimle_server.apis import ALL_APIS
    from aimle_server.token_command import open_database
    from ml_repository.oauth_clients import OAuthClients

    scopes = [api.scope for api in ALL_APIS]
    async with open_database(settings) as database:
        stored = OAuthClients(database)
        return {name: ClientCredentials(name, await stored.add(name, scopes)) for name in names}

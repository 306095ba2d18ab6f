"""`aimle-server token`: the operator's way to the built-in issuer's clients and tokens.

It works beside a running server: on the configured database, or on the embedded one, which it reaches where
the running server says it listens, or starts for the moment when no server runs.
"""

import argparse
import fcntl
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aimle_server.settings import Settings, SettingsError
from ml_repository.database import Database, connect
from ml_repository.embedded import EmbeddedDatabase
from ml_repository.oauth_clients import OAuthClients
from sbi.clock import Clock
from sbi.errors import NotFound
from sbi.issuer import TokenIssuer, load_or_create_key


async def run(settings: Settings, args: argparse.Namespace) -> None:
    """Do what `args.action` says and print the result.

    Raises:
        SettingsError: tokens come from another issuer.
        AimleError: there is such a client already, or none.
    """
    if settings.auth.mode != "builtin":
        raise SettingsError("auth.mode is external: clients and tokens are its issuer's")
    if args.action == "issue" and args.scope:  # needs the key only
        _issue(settings, args.client_id, args.scope, args.vendor)
        return
    async with open_database(settings) as database:
        await _with_clients(settings, OAuthClients(database), args)


async def _with_clients(settings: Settings, clients: OAuthClients, args: argparse.Namespace) -> None:
    match args.action:
        case "add":
            print(await clients.add(args.client_id, args.scope, args.vendor))
        case "remove":
            if not await clients.remove(args.client_id):
                raise _unknown(args.client_id)
        case "list":
            for client in await clients.all():
                print(client.client_id, " ".join(sorted(client.scopes)), client.vendor or "-", sep="\t")
        case "issue":
            known = await clients.find(args.client_id)
            if known is None:
                raise _unknown(args.client_id)
            _issue(settings, known.client_id, sorted(known.scopes), args.vendor or known.vendor)


def _issue(settings: Settings, client_id: str, scopes: list[str], vendor: str | None) -> None:
    auth = settings.auth
    key = load_or_create_key(settings.key_file)
    issuer = TokenIssuer(key, settings.issuer, auth.audience, auth.token_lifetime, Clock())
    print(issuer.issue(client_id, scopes, vendor)[0])


def _unknown(client_id: str) -> NotFound:
    return NotFound(f"there is no client {client_id}")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The server's database, for the time of the block."""
    directory = Path(settings.server.data_dir)
    async with AsyncExitStack() as stack:
        url = settings.database.url or _running(directory)
        if not url:
            url = (await stack.enter_async_context(EmbeddedDatabase(directory))).url
        database = await connect(url, settings.database.name)
        stack.push_async_callback(database.close)
        yield database


def _running(directory: Path) -> str:
    """Where the embedded database listens that a server has started; empty when none has."""
    try:
        with (directory / "db.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found = re.search(r"mongodb://\S+", lock.read())
                return found[0] if found else ""
    except FileNotFoundError:
        pass
    return ""

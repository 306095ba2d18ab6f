"""The APIs for AIMLE clients on a real database, for callers whose bearer token is simply their name."""

import itertools
import random
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from aimle_server.apis import client_discovery, client_registration, client_selection
from aimle_server.procedures.client_discovery import ClientDiscovery
from aimle_server.procedures.client_participation import AimleClients
from aimle_server.procedures.client_registration import ClientRegistration, Lifetimes
from aimle_server.procedures.client_selection import ClientSelection
from aimle_server.procedures.external import External
from aimle_server.services import SERVICES
from ml_repository.client_sets import ClientSets
from ml_repository.database import Database
from ml_repository.registrations import INDEXES, Registrations
from sbi.auth import Caller
from sbi.errors import Unauthenticated
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.outbound import TargetPolicy
from sbi.problems import problem_middleware
from tests.support import ManualClock

LOOPBACK = TargetPolicy(allow=(ip_network("127.0.0.0/8"),))
LIFETIMES = Lifetimes(default=timedelta(hours=1), maximum=timedelta(hours=4))


class NameIsToken:
    """Whoever says a name is believed."""

    async def authenticate(self, authorization: str | None, scope: str) -> Caller:
        if not authorization:
            raise Unauthenticated("who is calling?")
        return Caller(authorization.removeprefix("Bearer "), frozenset({scope}))


def bearer(name: str) -> dict[str, str]:
    """Headers of a caller with this name."""
    return {"Authorization": f"Bearer {name}"}


def ids(prefix: str) -> Callable[[], str]:
    """IDs that a test can foretell: `reg-1`, `reg-2` and so on."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


async def client_apis(
    database: Database,
    clock: ManualClock,
    clients: AimleClients | None = None,
    *,
    external: External | None = None,
    timeout: float = 5,
    begin: Callable[[int], int] = random.randrange,
) -> web.Application:
    """An app with registration, discovery and selection; `begin`: where a search among the clients does."""
    await database.ensure_indexes(INDEXES)
    registrations = Registrations(database, begin)
    discovery = ClientDiscovery(registrations, clock, external or External())
    services: Any = SimpleNamespace(
        registration=ClientRegistration(registrations, clock, ids("reg"), LIFETIMES, LOOPBACK.check),
        discovery=discovery,
    )
    if clients is not None:
        services.selection = ClientSelection(
            discovery, registrations, ClientSets(database), clients, clock, ids("set"), timeout
        )
    app = web.Application(middlewares=[problem_middleware])
    app[AUTHENTICATOR] = NameIsToken()
    app[PUBLIC_URL] = ""
    app[SERVICES] = services
    mount(app, [client_registration.API, client_discovery.API, client_selection.API])
    return app

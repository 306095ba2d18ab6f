"""Searching among many registered clients (TS 23.482 8.8, 8.9): what is found, in which order, and what it costs."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import monitoring

from aimle_server.procedures.client_discovery import MAX_CLIENTS, ClientDiscovery
from aimle_server.procedures.external import External
from ml_repository.database import Database
from ml_repository.registrations import BATCH, COLLECTION, INDEXES, Registrations, place, tag
from tests.support import START, ManualClock
from tests.support_clients import SERVICE, Json, criteria, reg_info, stored

SERVED = [tag("svc", SERVICE)]


class Finds(monitoring.CommandListener):
    """The filters of the searches of one connection."""

    def __init__(self) -> None:
        self.filters: list[Json] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.filters.append(event.command["filter"])

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
async def indexed(database: Database) -> Database:
    """A database with the indexes of registrations."""
    await database.ensure_indexes(INDEXES)
    return database


@asynccontextmanager
async def observed(url: str, database: Database) -> AsyncIterator[tuple[Database, Finds]]:
    """The same database over a connection whose searches are noted."""
    finds = Finds()
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(url, tz_aware=True, event_listeners=[finds])
    yield Database(client, client[database.db.name]), finds
    client.close()


def documents(names: Iterable[str], lifetime: timedelta = timedelta(hours=1), **changes: Any) -> list[Json]:
    """Registrations of these clients."""
    return [
        stored(reg_info(name, **changes))
        | {"_registration": name, "_owner": name, "_expires": START + lifetime, "_place": place(name)}
        for name in names
    ]


def named(prefix: str, count: int) -> list[str]:
    """Names of so many clients."""
    return [f"{prefix}-{number}" for number in range(count)]


async def populate(database: Database, *registrations: Sequence[Json]) -> None:
    """Store registrations, as if each had been made in time."""
    await database[COLLECTION].insert_many([document for each in registrations for document in each])


def at(begin: int) -> Callable[[int], int]:
    """Let a search begin there."""
    return lambda _: begin


def discovery(registrations: Registrations) -> ClientDiscovery:
    """Discovery at START."""
    return ClientDiscovery(registrations, ManualClock(), External())


async def discover(registrations: Registrations, number: int | None) -> list[str]:
    """The clients that one request for so many is answered with."""
    answer = await discovery(registrations).discover(criteria(), number, None)
    found: list[str] = answer["clients"]
    return found


async def examined(database: Database, finds: Finds) -> int:
    """How many documents the database looked at to answer all these searches to their end."""
    plans = [await database[COLLECTION].find(query).explain() for query in finds.filters]
    return sum(plan["executionStats"]["totalDocsExamined"] for plan in plans)


async def test_exactly_those_that_match(indexed: Database) -> None:
    """However many pieces are read, each client that matches is found once, and no other."""
    names = named("ue", 5 * BATCH)
    await populate(
        indexed,
        documents(names),
        documents(named("late", BATCH), lifetime=timedelta()),
        documents(named("foreign", BATCH), service="other"),
        documents(named("inference", BATCH), aimlOperations=["MODEL_INFERENCE"]),
    )
    for _ in range(5):
        assert sorted(await discover(Registrations(indexed), None)) == sorted(names)


async def test_a_rare_match_among_many(indexed: Database) -> None:
    """The one client that fits is found, wherever the search begins, though no tag tells it from the others."""
    fits = documents(["fits"], dataSetAvail={"dataSetIds": ["flows"], "size": 10**9})
    await populate(indexed, documents(named("ue", 3 * BATCH)), fits)
    wanted = criteria(datasetReq={"avail": {"ids": ["flows"], "size": 10**9}})
    for begin in (0, place("fits"), place("fits") + 1):
        registrations = Registrations(indexed, at(begin))
        [found] = await discovery(registrations).candidates(wanted, MAX_CLIENTS)
        assert found.client_id == "fits"


@pytest.mark.parametrize("number", [10, BATCH])
async def test_the_cost_of_a_search(mongo_url: str, indexed: Database, number: int) -> None:
    """To find some clients the database reads not many more, however many are registered."""
    costs = []
    for prefix, registered in (("a", 5 * BATCH), ("b", 15 * BATCH)):
        await populate(indexed, documents(named(prefix, registered)))
        async with observed(mongo_url, indexed) as (database, finds):
            assert len(await discover(Registrations(database, at(0)), number)) == number
        assert len(finds.filters) <= 5
        costs.append(await examined(indexed, finds))
    assert max(costs) <= 3 * number, costs


async def test_nobody_is_preferred(indexed: Database) -> None:
    """Who takes one client each time does not take the same one: the first is where the search begins."""
    names = named("ue", 20)
    await populate(indexed, documents(names))
    for name in names:
        assert await discover(Registrations(indexed, at(place(name))), 1) == [name]
    registrations = Registrations(indexed)
    assert len({(await discover(registrations, 1))[0] for _ in range(20)}) > 1


async def test_clients_that_register_meanwhile(indexed: Database) -> None:
    """While a search goes on, clients renew their registrations and others come: none is missed or found twice."""
    names = named("ue", 5 * BATCH)
    await populate(indexed, documents(names))
    registrations = Registrations(indexed)
    found: list[str] = []
    async with aclosing(registrations.candidates(SERVED, START)) as candidates:
        async for candidate in candidates:
            found.append(candidate["_id"])
            if len(found) == BATCH:
                await populate(indexed, documents(named("new", 20)))
                for renewed in documents(names[::10], lifetime=timedelta(hours=2)):
                    del renewed["_stats"]
                    assert await registrations.register(renewed, START)
    assert len(found) == len(set(found))
    assert set(names) <= set(found) <= {*names, *named("new", 20)}

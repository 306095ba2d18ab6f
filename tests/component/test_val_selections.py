"""Client selection subscriptions as a VAL server uses them, with real AIMLE clients (TS 23.482 8.13)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from aimle_client.errors import NotFound, RequestRefused
from aimle_client.testing import RunningServer
from aimle_client.val import Replacement, Reporting, ValServer, discovery_criteria
from ml_repository.database import Database
from sbi.clock import Clock
from tests.support import ManualClock, passing
from tests.support_training import SERVICE, Pull, serving, ue, val_server

CRITERIA = discovery_criteria(SERVICE, datasets=["digits"])


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """A server that takes every request."""
    async with serving(mongo_url, database) as running:
        yield running


async def test_a_selection_is_kept(server: RunningServer) -> None:
    """A device that switches itself off is replaced by one that comes, until nobody wants them any more."""
    async with val_server(server) as val, AsyncExitStack() as first:
        await first.enter_async_context(ue(server.url, "ue-1", Pull(1.0)))
        expires = Clock().now() + timedelta(hours=1)
        subscription = await val.subscribe_selection(CRITERIA, num_clients=1, expires=expires)
        events = subscription.events()
        assert (await anext(events)).changes == (Replacement(None, "ue-1"),)
        async with ue(server.url, "ue-2", Pull(1.0)):
            await first.aclose()
            event = await anext(events)
            assert event.changes == (Replacement("ue-1", "ue-2"),)
            assert event.at is not None
            assert subscription.clients == {"ue-2"}
            async with ue(server.url, "ue-3", Pull(1.0)):
                await subscription.update(num_clients=2)
                assert (await anext(events)).changes == (Replacement(None, "ue-3"),)
            await subscription.cancel()
            with pytest.raises(NotFound):
                await subscription.update(num_clients=2)


async def test_periodic_reports(mongo_url: str, database: Database) -> None:
    """Each is the whole selection, so that whoever has left is not in it any more, also when nobody is left."""
    clock = ManualClock()
    async with (
        serving(mongo_url, database, clock=clock) as server,
        val_server(server) as val,
        ue(server.url, "ue-1", Pull(1.0)),
        AsyncExitStack() as second,
        passing(clock),
    ):
        await second.enter_async_context(ue(server.url, "ue-2", Pull(1.0)))
        subscription = await val.subscribe_selection(CRITERIA, reporting=Reporting(periodic=1))
        events = subscription.events()

        async def until_selected(*names: str) -> None:
            while subscription.clients != set(names):
                await anext(events)

        await until_selected("ue-1", "ue-2")
        await second.aclose()
        await until_selected("ue-1")
        await subscription.update(criteria=discovery_criteria("val-of-nobody"))
        await until_selected()
        assert (await anext(events)).changes == ()


async def test_reports_that_end(server: RunningServer) -> None:
    """After the last one there is no event, and no subscription."""
    async with val_server(server) as val:
        once = await val.subscribe_selection(CRITERIA, reporting=Reporting(once=True))
        few = await val.subscribe_selection(CRITERIA, reporting=Reporting(at_once=True, most=2))
        first = await anext(few.events())
        assert (first.changes, few.clients) == ((), set())
        async with ue(server.url, "ue-1", Pull(1.0)):
            assert [event.changes async for event in once.events()] == [(Replacement(None, "ue-1"),)]
            with pytest.raises(NotFound):
                await once.cancel()


async def test_wrong_requests(server: RunningServer) -> None:
    """What the server refuses has a name, and without a listener nobody would hear anything."""
    async with val_server(server) as val, ValServer(server.url) as deaf:
        with pytest.raises(RequestRefused, match="/reqNum"):
            await val.subscribe_selection(CRITERIA, num_clients=0)
        over = Reporting(until=Clock().now() - timedelta(hours=1))
        with pytest.raises(RequestRefused, match="/aimle/reportReq/monDur"):
            await val.subscribe_selection(CRITERIA, reporting=over)
        with pytest.raises(RuntimeError, match="listen"):
            await deaf.subscribe_selection(CRITERIA)

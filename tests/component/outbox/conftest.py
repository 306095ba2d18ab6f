"""An outbox, what sends its messages, and a target: a real database, real dispatchers, real listeners."""

import asyncio
import random
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from aimle_server.notifications.dispatcher import Dispatcher
from ml_repository.database import Database
from ml_repository.outbox import INDEXES, Outbox
from sbi.outbound import Outbound, TargetPolicy
from tests.support import Listener, ManualClock
from tests.support_outbox import POLICY, MakeDispatcher


@pytest.fixture
def clock() -> ManualClock:
    """The test's time."""
    return ManualClock()


@pytest.fixture
async def outbox(database: Database, clock: ManualClock) -> Outbox:
    """An empty outbox."""
    await database.ensure_indexes(INDEXES)
    return Outbox(database, clock)


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    """Calls that may go to loopback."""
    client = Outbound(TargetPolicy(allow=(ip_network("127.0.0.0/8"),)))
    yield client
    await client.close()


@pytest.fixture
async def dispatch(outbox: Outbox, outbound: Outbound, clock: ManualClock) -> AsyncIterator[MakeDispatcher]:
    """Makes running dispatchers, and stops them."""
    running: list[Dispatcher] = []

    async def make(calls: Outbound = outbound, timeout: float = 10) -> Dispatcher:
        dispatcher = Dispatcher(
            outbox, calls, POLICY, clock, random.Random(1), concurrency=16, poll_interval=1, timeout=timeout
        )
        running.append(dispatcher)
        await dispatcher.start()
        return dispatcher

    yield make
    await asyncio.gather(*(dispatcher.stop(grace=0) for dispatcher in running))


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A notification target."""
    async with Listener() as target:
        yield target

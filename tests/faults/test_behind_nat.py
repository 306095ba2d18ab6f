"""Everybody but the server is behind a NAT: kill -9 of the server, several processes, lost connections (8.12)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from aimle_client.http import RetryPolicy
from aimle_client.val import Objective, Training, TrainingProfile, ValServer, discovery_criteria
from ml_repository.database import Database
from tests.support import eventually
from tests.support_process import Server
from tests.support_training import SERVICE, Pull, begin, events_of, ue

pytestmark = pytest.mark.faults

PATIENT = RetryPolicy(attempts=8, first=0.2)
CALLS_NOBODY = {"AIMLE_TARGETS_SCHEMES": "https"}
"""A server that uses the channels or nothing: all others here are reached by plain HTTP."""


@asynccontextmanager
async def everybody(server: Server, trainers: Mapping[str, Pull]) -> AsyncIterator[ValServer]:
    """The server started, AIMLE clients with these trainers and a VAL server behind WebSockets."""
    await server.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.kill)
        for name, trainer in trainers.items():
            stack.callback(trainer.gate.set)
            await stack.enter_async_context(ue(server.url, name, trainer, websocket=True, retry=PATIENT))
        yield await stack.enter_async_context(ValServer(server.url, websocket=True, retry=PATIENT))


async def begun(val: ValServer, trainers: Mapping[str, Pull]) -> Training:
    """Three rounds of all of them."""
    return await begin(
        val,
        members=list(trainers),
        objective=Objective(max_epochs=3),
        profile=TrainingProfile(learning_rate=0.5, min_reports=1.0),
    )


@pytest.mark.parametrize("dies", [True, False], ids=["kill -9", "SIGTERM"])
async def test_a_server_that_ends(tmp_path: Path, mongo_url: str, database: Database, dies: bool) -> None:
    """Ended in the middle of a round, the server finds clients and VAL server again, and the training ends well."""
    server = Server.on(tmp_path, mongo_url, database, **CALLS_NOBODY)
    trainers = {"ue-1": Pull(0.9, 5), "ue-2": Pull(1.1, 40)}
    async with everybody(server, trainers) as val:
        training = await begun(val, trainers)
        first = await anext(training.events())
        trainers["ue-1"].gate.clear()
        await eventually(lambda: trainers["ue-1"].fitting.is_set())
        if dies:
            await server.kill()
        else:
            async with asyncio.timeout(5):  # WebSockets are no requests that are waited for
                assert await server.stop() == 0
        await server.start()
        trainers["ue-1"].gate.set()
        async with asyncio.timeout(60):
            events = [first, *await events_of(training)]
        assert [event.round for event in events if event.round] == [1, 2, 3]
        assert (events[-1].state, events[-1].evaluated_round) == ("COMPLETED", 3)


async def test_news_of_while_it_was_away(tmp_path: Path, mongo_url: str, database: Database) -> None:
    """What a client does while its server is dead, a VAL server behind a NAT hears when both are back."""
    server = Server.on(tmp_path, mongo_url, database, **CALLS_NOBODY)
    async with everybody(server, {}) as val, AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(
                ue(server.url, name, Pull(1.0), websocket=True, retry=PATIENT)
            )
            for name in ("ue-1", "ue-2")
        }
        selection = await val.subscribe_selection(discovery_criteria(SERVICE), num_clients=1)
        events = selection.events()
        [came] = (await anext(events)).changes
        assert came.selected in clients
        await server.kill()
        leaving = asyncio.create_task(clients[came.selected].__aexit__(None, None, None))
        await server.start()
        await leaving
        async with asyncio.timeout(30):
            [changed] = (await anext(events)).changes
        assert changed.replaced == came.selected
        assert {changed.selected, came.selected} == set(clients)


async def test_any_worker_reaches_whom_another_one_holds(
    tmp_path: Path, mongo_url: str, database: Database
) -> None:
    """With several processes each WebSocket is at one of them, and all of them call through it."""
    server = Server.on(tmp_path, mongo_url, database, AIMLE_SERVER_WORKERS="4", **CALLS_NOBODY)
    trainers = {f"ue-{number}": Pull(1.0 + number / 10) for number in range(6)}
    async with everybody(server, trainers) as val:
        training = await begun(val, trainers)
        async with asyncio.timeout(60):
            events = await events_of(training)
        assert (events[-1].state, events[-1].evaluated_round) == ("COMPLETED", 3)
        status = await training.status()
        assert [record.participants for record in status.history] == [len(trainers)] * 3

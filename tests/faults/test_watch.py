"""kill -9 of the server while it watches: no subscription is lost, and no event that it was to notice."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aimle_client.val import Objective, ValServer, member_criteria
from ml_repository.database import Database
from sbi.clock import from_wire
from tests.support import Listener, eventually
from tests.support_clients import criteria, reg_info
from tests.support_participant import participants, update
from tests.support_process import Server
from tests.support_training import START, begin, events_of

pytestmark = pytest.mark.faults


async def agree(_: web.Request) -> web.StreamResponse:
    return web.json_response({"clientStatus": True})


def told(val: Listener) -> list[Any]:
    """What a VAL server was told; a notification that was delivered twice counts once, as it does for a VAL server."""
    return [body for number, body in enumerate(val.bodies) if body not in val.bodies[:number]]


@pytest.fixture
async def server(tmp_path: Path, mongo_url: str, database: Database) -> AsyncIterator[Server]:
    """A server that runs."""
    server = Server.on(tmp_path, mongo_url, database)
    await server.start()
    yield server
    await server.kill()


@pytest.mark.parametrize("dies_first", [True, False], ids=["before the event", "after the event"])
async def test_a_server_that_dies(server: Server, dies_first: bool) -> None:
    """A selected client leaves just before or after its server is killed: the next one replaces it and says so."""
    async with (
        aiohttp.ClientSession() as http,
        Listener() as val,
        Listener(default=agree) as one,
        Listener(default=agree) as other,
    ):
        registrations = []
        for name, client in (("ue-1", one), ("ue-2", other)):
            info = reg_info(name, aimleClientUri=client.url("").rstrip("/"))
            async with http.post(f"{server.url}/aimles-client-reg/v1/registrations", json=info) as answer:
                registrations.append((name, answer.headers["Location"]))
        body = {"selCriteria": criteria(), "reqNum": 1, "notifUri": val.url()}
        async with http.post(f"{server.url}/aimles-sel/v1/subscriptions", json=body) as answer:
            assert answer.status == 201
            subscription = answer.headers["Location"]
        await eventually(lambda: val.bodies)
        chosen = val.bodies[0]["reports"][0]["selected"]
        leaving = dict(registrations)[chosen]
        if dies_first:
            await server.kill()
            await server.start()
        assert (await http.delete(leaving)).status == 204
        if not dies_first:
            await server.kill()
            await server.start()
        await eventually(lambda: len(told(val)) > 1, timeout=40)
        assert {(one["replaced"]) for one in told(val)[1]["reports"]} == {chosen}
        assert (await http.get(subscription)).status == 200


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_server_that_dies_while_it_reports(
    tmp_path: Path, mongo_url: str, database: Database, when: str
) -> None:
    """Killed before or after it writes the second of its periodic reports: each period is told of once."""
    period = timedelta(seconds=6)
    server = Server.on(tmp_path, mongo_url, database, AIMLE_HFL_PARTICIPATION_TIMEOUT="0.5")
    await server.start(when, "report", "2")
    async with aiohttp.ClientSession() as http, Listener() as val:
        began = datetime.now(UTC)
        body = {
            "selCriteria": criteria(),
            "notifUri": val.url(),
            "aimle": {"reportReq": {"notifMethod": "PERIODIC", "repPeriod": period.seconds}},
        }
        async with http.post(f"{server.url}/aimles-sel/v1/subscriptions", json=body) as answer:
            assert answer.status == 201
        await server.has_died()
        await server.start()
        await eventually(lambda: len(told(val)) >= 4, timeout=40)
        await server.kill()
        made = [from_wire(body["timeStamp"]) for body in told(val)]
        assert [(at - began) // period for at in made] == [1, 2, 3, 4]


@pytest.mark.parametrize("dies_first", [True, False], ids=["before the event", "after the event"])
async def test_a_server_that_dies_during_a_round(server: Server, dies_first: bool) -> None:
    """A member leaves just before or after the kill: another takes its place, and the VAL server hears of both."""
    async with (
        ValServer(server.url, listen=("127.0.0.1", 0)) as val,
        participants(server.url, "ue-1") as (leaving,),
        AsyncExitStack() as stack,
    ):
        training = await begin(
            val, criteria=member_criteria(), num_clients=1, objective=Objective(), member_updates=True
        )
        await leaving.asked()
        [coming] = await stack.enter_async_context(participants(server.url, "ue-2"))
        if dies_first:
            await server.kill()
            await server.start()
            await leaving.asked(2)
            await leaving.deregister()
            await eventually(lambda: coming.asked_to == ["JOIN"], timeout=40)
            await leaving.participate(update(START))
        else:
            await leaving.deregister()
            await server.kill()
            await server.start()
        await eventually(lambda: coming.rounds, timeout=40)
        await training.cancel()
        changes = [(one.uri, one.selected) for event in await events_of(training) for one in event.members]
        await eventually(lambda: coming.asked_to == ["JOIN", "DEPART"])
    assert {(leaving.uri, True), (leaving.uri, False), (coming.uri, True)} <= set(changes)

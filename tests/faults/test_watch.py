"""kill -9 of the server while it watches: no subscription is lost, and no event that it was to notice."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from ml_repository.database import Database
from sbi.clock import from_wire
from tests.support import Listener, eventually
from tests.support_clients import criteria, reg_info
from tests.support_process import Server

pytestmark = pytest.mark.faults


async def agree(_: web.Request) -> web.StreamResponse:
    return web.json_response({"clientStatus": True})


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
        await eventually(lambda: len(val.bodies) > 1, timeout=40)
        assert {(one["replaced"]) for one in val.bodies[1]["reports"]} == {chosen}
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

        def told() -> list[datetime]:
            """When each report was made; one that was delivered twice counts once, as for its receiver."""
            return sorted({from_wire(body["timeStamp"]) for body in val.bodies})

        await eventually(lambda: len(told()) >= 4, timeout=40)
        await server.kill()
        assert [(at - began) // period for at in told()] == [1, 2, 3, 4]

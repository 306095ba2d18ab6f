"""AIMLE clients that take part in a training and do nothing by themselves, so that a benchmark can do it for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from benchmarks.population import address
from benchmarks.server import Server, registration


class Participants:
    """Registered clients in this process, each at a loopback address of its own.

    Attributes:
        names: their AIMLE client ids.
        updates: name -> where its update of the running round goes.
    """

    def __init__(self, count: int) -> None:
        self.names = [f"participant-{number}" for number in range(count)]
        self.updates: dict[str, str] = {}
        self._hosts = {address(number): name for number, name in enumerate(self.names, 1)}
        self._asked = asyncio.Event()

    async def all_asked(self) -> None:
        """Return when each has been asked for a round."""
        await self._asked.wait()

    async def register(self, server: Server, port: int) -> None:
        """Tell the server of all."""
        headers = {"Authorization": f"Bearer {server.token('participants')}"}
        url = f"{server.url}/aimles-client-reg/v1/registrations"
        async with aiohttp.ClientSession(headers=headers) as session:
            for host, name in self._hosts.items():
                body = registration(name, f"http://{host}:{port}")
                async with session.post(url, json=body) as answer:
                    answer.raise_for_status()

    def application(self) -> web.Application:
        """The APIs of all."""
        app = web.Application()
        app.router.add_post("/aimlec-cp/v1/participation", self._join)
        app.router.add_post("/aimlec-serv-ops/v1/perform", self._perform)
        app.router.add_post("/aimlec-hfl-trng/v1/subscriptions", self._subscribe)
        app.router.add_delete("/aimlec-hfl-trng/v1/subscriptions/1", self._withdraw)
        return app

    async def _join(self, _: web.Request) -> web.Response:
        return web.json_response({"clientStatus": True})

    async def _perform(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"servOpId": body["servOpId"], "servOpModeStatus": body["servOpMode"]})

    async def _subscribe(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = self._hosts[request.host.partition(":")[0]]
        self.updates[name] = body["notifUri"].replace("/notifications", "/update").partition("?")[0]
        if len(self.updates) == len(self.names):
            self._asked.set()
        return web.json_response(body, status=201, headers={"Location": f"{request.path}/1"})

    async def _withdraw(self, _: web.Request) -> web.Response:
        return web.Response(status=204)


@asynccontextmanager
async def participants(server: Server, count: int) -> AsyncIterator[Participants]:
    """Registered clients that answer."""
    found = Participants(count)
    runner = web.AppRunner(found.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", 0).start()
        await found.register(server, runner.addresses[0][1])
        yield found
    finally:
        await runner.cleanup()

"""A server that keeps selections, a VAL server that listens, and AIMLE clients that a test puts around it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp import web

from aimle_client.testing import RunningServer
from ml_repository.database import Database
from sbi.clock import to_wire
from tests.support import Listener, ManualClock, eventually
from tests.support_clients import Json, criteria, reg_info
from tests.support_training import serving

SUBSCRIPTIONS = "/aimles-sel/v1/subscriptions"
REGISTRATIONS = "/aimles-client-reg/v1/registrations"


async def agree(_: web.Request) -> web.StreamResponse:
    return web.json_response({"clientStatus": True})


async def refuse(_: web.Request) -> web.StreamResponse:
    return web.json_response({"clientStatus": False})


@dataclass
class World:
    """A server, a VAL server that listens, and AIMLE clients that a test puts around it."""

    server: RunningServer
    http: aiohttp.ClientSession
    clock: ManualClock
    val: Listener
    stack: AsyncExitStack
    clients: dict[str, Listener] = field(default_factory=dict)
    registrations: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any, str]:
        """Status, body and Location of the answer."""
        url = path if path.startswith("http") else self.server.url + path
        async with self.http.request(method, url, json=body) as answer:
            text = await answer.text()
            return (
                answer.status,
                await answer.json(content_type=None) if text else None,
                answer.headers.get("Location", ""),
            )

    async def add(self, name: str, answer: Any = agree, **profile: Any) -> None:
        """A client that answers like this, registered for a day."""
        self.clients[name] = await self.stack.enter_async_context(Listener(default=answer))
        status, body, self.registrations[name] = await self.call(
            "POST", REGISTRATIONS, self._info(name, **profile)
        )
        assert status == 201, body

    async def change(self, name: str, **profile: Any) -> None:
        """The client states something else, or the same, and is registered for an hour from now."""
        body = {
            "regData": self._info(name, **profile),
            "expTime": to_wire(self.clock.now() + timedelta(hours=1)),
        }
        assert (await self.call("PUT", self.registrations[name], body))[0] == 200

    def _info(self, name: str, **profile: Any) -> Json:
        return reg_info(name, aimleClientUri=self.clients[name].url("").rstrip("/"), **profile)

    async def subscribe(self, **body: Any) -> str:
        """The new subscription's URI."""
        whole = {"selCriteria": criteria(), "notifUri": self.val.url(), **body}
        status, answer, location = await self.call("POST", SUBSCRIPTIONS, whole)
        assert (status, answer) == (201, {**whole, **({"suppFeat": "0"} if "suppFeat" in whole else {})})
        return location

    def reports(self) -> list[tuple[str, str]]:
        """All that the VAL server was told: who was replaced by whom."""
        return [(one["replaced"], one["selected"]) for body in self.val.bodies for one in body["reports"]]

    def selected(self) -> set[str]:
        """Who is selected, by what the VAL server was told."""
        found: set[str] = set()
        for replaced, selected in self.reports():
            found = (found - {replaced}) | ({selected} - {""})
        return found

    async def until_selected(self, *names: str) -> None:
        """Return when the VAL server knows that these are selected; time passes meanwhile, but not much."""

        def told() -> bool:
            self.clock.advance(0.02)
            return self.selected() == set(names)

        await eventually(told)

    def told(self, name: str) -> list[str]:
        """What a client was asked, in order: JOIN or DEPART."""
        return [body["clientSetPart"] for body in self.clients[name].bodies]


@asynccontextmanager
async def open_world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Nobody is there yet."""
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(mongo_url, database, clock=clock))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        val = await stack.enter_async_context(Listener())
        yield World(server, http, clock, val, stack)

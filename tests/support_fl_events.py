"""A server with FL members of both registers, and somebody who has subscribed to what happens to them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp

from aimle_client.testing import RunningServer
from ml_repository.database import Database
from sbi.clock import to_wire
from tests.support import START, Listener, ManualClock, eventually
from tests.support_clients import reg_info
from tests.support_fl_members import fl_mbr
from tests.support_training import serving

Json = dict[str, Any]

SUBSCRIPTIONS = "/mlr-fle/v1/subscriptions"
REGISTRATIONS = "/aimles-client-reg/v1/registrations"
MEMBERS = "/mlr-fl/v1/configurations"
STORAGES = "/mlr-mlmm/v1/storages"

ANY_MODEL = {"mlModelId": "*", "storeDiscReqs": {"duration": 0}}
CLIENTS = {"flMbrType": "FL_CLIENT"}
ENTERING, LEAVING = "ENTERING", "LEAVING"


def window(begins: float = 0, ends: float = 7 * 24) -> Json:
    """A TimeWindow, in hours from START."""
    return {
        "startTime": to_wire(START + timedelta(hours=begins)),
        "stopTime": to_wire(START + timedelta(hours=ends)),
    }


def event(name: str | None = None, **changes: Any) -> Json:
    """An EvtInfo: of this event, or of all; `changes` of its type, `schedule` that of the training."""
    schedule = changes.pop("schedule", [{}])
    kind = {
        "availFlMbr": "AVAILABLE",
        "flMdlInfo": {"accuracy": changes.pop("accuracy", 100), "timeSchedule": schedule, "latency": 60},
        "flMbrLdInfo": 50,
    }
    return {"evtType": kind | changes, **({"evtId": name} if name else {})}


def subscription(**changes: Any) -> Json:
    """An FlEvtsSub to the availability of FL clients for any model, without its `notifUri`.

    To that alone: who wants loads as well is looked at every 30 seconds, and nothing else would have to do it.
    """
    return {
        "flMbrInfo": CLIENTS,
        "mlMdlInfo": ANY_MODEL,
        "evtInfo": event("FL_MEMBER_AVAILABILITY"),
        "timeValidity": window(),
    } | changes


@dataclass
class World:
    """A server, a subscriber that listens, and members that a test registers.

    Attributes:
        uris: of registrations and configurations, by the member's name.
    """

    server: RunningServer
    http: aiohttp.ClientSession
    clock: ManualClock
    subscriber: Listener
    uris: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any, str]:
        """Status, body and Location of the answer."""
        url = path if path.startswith("http") else self.server.url + path
        async with self.http.request(method, url, json=body) as answer:
            text = await answer.text()
            content = await answer.json(content_type=None) if text else None
            return answer.status, content, answer.headers.get("Location", "")

    async def client(self, name: str, **profile: Any) -> None:
        """An AIMLE client registers for a day, or states something else."""
        info = reg_info(name, **profile)
        if name in self.uris:
            expires = to_wire(self.clock.now() + timedelta(days=1))
            status, body, _ = await self.call("PUT", self.uris[name], {"regData": info, "expTime": expires})
        else:
            status, body, self.uris[name] = await self.call("POST", REGISTRATIONS, info)
        assert status in (200, 201), body

    async def member(self, name: str, **statements: Any) -> None:
        """An FL member registers, or states something else."""
        if name in self.uris:
            status, body, _ = await self.call("PUT", self.uris[name], fl_mbr(name, **statements))
        else:
            status, body, self.uris[name] = await self.call("POST", MEMBERS, fl_mbr(name, **statements))
        assert status in (200, 201), body

    async def leave(self, name: str) -> None:
        """A member or client deregisters."""
        assert (await self.call("DELETE", self.uris.pop(name)))[0] == 204

    async def subscribe(self, **changes: Any) -> str:
        """The new subscription's URI."""
        whole = subscription(notifUri=self.subscriber.url(), **changes)
        status, answer, location = await self.call("POST", SUBSCRIPTIONS, whole)
        assert status == 201, answer
        return location

    def contents(self, event_id: str = "FL_MEMBER_AVAILABILITY") -> list[Json]:
        """All EvtContents that were told of an event."""
        bodies = [body for body in self.subscriber.bodies if body["evtId"] == event_id]
        return [content for body in bodies for content in body["evtContentList"]]

    def moves(self) -> list[tuple[str, str]]:
        """Who came and who went, as it was told."""
        return [
            (content["flMbrInfo"]["flMbrId"], content["flMbrEnterLeave"])
            for content in self.contents()
            if "flMbrEnterLeave" in content
        ]

    async def until(self, predicate: Callable[[], Any], step: float = 0.02) -> Any:
        """Return when that is so; time passes meanwhile, `step` seconds at a time: not much."""

        def passing() -> Any:
            self.clock.advance(step)
            return predicate()

        return await eventually(passing)

    async def until_moved(self, *moves: tuple[str, str]) -> None:
        """Return when these moves and no others have been told, in any order of those of one moment."""
        await self.until(lambda: len(self.moves()) >= len(moves))
        assert sorted(self.moves()) == sorted(moves)


@asynccontextmanager
async def fl_world(
    url: str, database: Database, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[World]:
    """Nobody is there yet."""
    clock = ManualClock()
    async with (
        serving(url, database, settings, clock=clock) as server,
        aiohttp.ClientSession() as http,
        Listener() as subscriber,
    ):
        yield World(server, http, clock, subscriber)

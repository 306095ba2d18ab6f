"""When an AIMLE client reports its rounds: `notifReqs` of an HFL subscription (TS 24.560 6.2.6.2.2, TS 29.549)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimle_client.runtime.report import Outcome, RoundReport
from aimle_client.ue import AimleClient
from sbi.api import MERGE_PATCH
from tests.support import ManualClock, eventually
from tests.support_ue import Adder, MiniServer

SUBSCRIPTIONS = "/aimlec-hfl-trng/v1/subscriptions"
MINUTE = {"reportingMode": "PERIODIC", "reportingPeriod": 60}
EACH = {"reportingMode": "ON_EVENT_DETECTION"}


class World:
    """An AIMLE client with one subscription, and the server that it reports to."""

    def __init__(self, server: MiniServer, client: AimleClient, trainer: Adder, clock: ManualClock) -> None:
        self.server, self.client, self.trainer, self.clock = server, client, trainer, clock
        self.heard: list[RoundReport] = []
        self.path = ""
        client.on_round(self.heard.append)

    async def subscribe(self, **requirements: Any) -> None:
        """Round 1 begins."""
        body = self.server.subscription(1, notifReqs=requirements)
        status, answer, headers = await self.server.call(self.client, "POST", SUBSCRIPTIONS, body)
        assert status == 201, answer
        assert answer["notifReqs"] == requirements
        self.path = headers["Location"].removeprefix(self.client.status.uri)

    async def patch(self, **changes: Any) -> None:
        """Change the subscription."""
        answer = await self.server.call(self.client, "PATCH", self.path, changes, content_type=MERGE_PATCH)
        assert answer[0] == 200, answer

    async def next_round(self, number: int) -> None:
        """Another round begins, with addresses of its own."""
        body = self.server.subscription(number)
        await self.patch(notifUri=body["notifUri"], aimlMdlInfo=body["aimlMdlInfo"])

    async def until_done(self, rounds: int) -> None:
        """Return when so many rounds have ended."""
        await eventually(lambda: len(self.heard) == rounds)

    async def until_told(self, *numbers: int) -> None:
        """Return when the server was told of these rounds, and assert that it was told of no other."""
        await eventually(lambda: all(self.server.notified(number) for number in numbers))
        assert [number for number in range(1, 10) for _ in self.server.notified(number)] == list(numbers)

    async def exists(self) -> bool:
        """Whether the subscription is there."""
        status = (await self.server.call(self.client, "GET", self.path))[0]
        assert status in (200, 404)
        return status == 200


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The client is registered for good."""
    clock, trainer = ManualClock(), Adder()
    async with (
        MiniServer(tmp_path, clock, lifetime=None) as server,
        server.client(trainer) as client,
    ):
        yield World(server, client, trainer, clock)
        trainer.gate.set()


async def test_each_round(world: World) -> None:
    """As without `notifReqs`."""
    await world.subscribe(**EACH)
    await world.until_told(1)
    await world.next_round(2)
    await world.until_told(1, 2)
    assert await world.exists()


async def test_once(world: World) -> None:
    """After the first report there is no subscription, and its round counts as done."""
    await world.subscribe(reportingMode="ONE_TIME")
    await world.until_told(1)
    await world.until_done(1)
    assert world.heard[0].outcome is Outcome.TRAINED
    assert not await world.exists()
    assert world.client.status.subscriptions == ()


async def test_so_many_times(world: World) -> None:
    """`maxNumRep` reports; another rule counts anew."""
    await world.subscribe(**EACH, maxNumRep=2)
    await world.until_done(1)
    await world.patch(notifReqs={"maxNumRep": 3} | EACH)
    for number in (2, 3, 4):
        assert await world.exists()
        await world.next_round(number)
        await world.until_done(number)
    await world.until_told(1, 2, 3, 4)
    assert not await world.exists()


async def test_periodically(world: World) -> None:
    """At the end of a period the latest result, to that round's address; where there is nothing new, nothing."""
    await world.subscribe(**MINUTE)
    await world.until_done(1)
    await world.next_round(2)
    await world.until_done(2)
    world.clock.advance(59)
    assert await world.exists()
    await world.until_told()
    world.clock.advance(1)
    await world.until_told(2)
    for _ in range(3):
        world.clock.advance(60)
        assert await world.exists()
    world.clock.advance(30)
    await world.next_round(3)
    await world.until_done(3)
    await world.until_told(2)
    world.clock.advance(30)
    await world.until_told(2, 3)


async def test_the_last_period(world: World) -> None:
    """The report that ends the subscription ends the round under way as well."""
    await world.subscribe(**MINUTE, maxNumRep=1)
    await world.until_done(1)
    world.trainer.gate.clear()
    world.trainer.fitting.clear()
    await world.next_round(2)
    await eventually(world.trainer.fitting.is_set)
    world.clock.advance(60)
    await world.until_told(1)
    await world.until_done(2)
    assert world.heard[1].outcome is Outcome.DISCARDED
    assert not await world.exists()


async def test_an_end(world: World) -> None:
    """`expirationTimer` counts from the last change; then a round that is under way is discarded."""
    await world.subscribe(**EACH, expirationTimer=90)
    await world.until_told(1)
    world.clock.advance(60)
    world.trainer.gate.clear()
    world.trainer.fitting.clear()
    await world.next_round(2)
    await eventually(world.trainer.fitting.is_set)
    world.clock.advance(89)
    assert await world.exists()
    world.clock.advance(1)
    await world.until_done(2)
    assert world.heard[1].outcome is Outcome.DISCARDED
    assert not await world.exists()
    await world.until_told(1)


async def test_an_end_that_the_subscriber_decides(world: World) -> None:
    """With USER_TRIGGERED neither the time nor the number ends it, DELETE does."""
    await world.subscribe(**EACH, expirationTimer=90, maxNumRep=1, repTerminMode="USER_TRIGGERED")
    await world.until_told(1)
    world.clock.advance(91)
    await world.next_round(2)
    await world.until_told(1, 2)
    assert (await world.server.call(world.client, "DELETE", world.path))[0] == 204
    assert not await world.exists()


async def test_what_a_period_has_kept_back(world: World) -> None:
    """Who wants to hear of each round from now on hears of the last one at once."""
    await world.subscribe(**MINUTE)
    await world.until_done(1)
    await world.until_told()
    await world.patch(notifReqs=None)
    await world.until_told(1)
    await world.next_round(2)
    await world.until_told(1, 2)


async def test_thresholds_are_refused(world: World) -> None:
    """An AIMLE client measures no network: 400 names the attribute, and the subscription stays as it was."""
    await world.subscribe(**EACH)
    thresholds = EACH | {"reportingThrs": [{"measThrValues": {"dlDelay": 5}, "thrDirection": "CROSSED"}]}
    patch = {"notifReqs": thresholds}
    answers = [
        await world.server.call(
            world.client, "POST", SUBSCRIPTIONS, world.server.subscription(1, notifReqs=thresholds)
        ),
        await world.server.call(world.client, "PATCH", world.path, patch, content_type=MERGE_PATCH),
    ]
    for status, answer, _ in answers:
        assert (status, answer["invalidParams"][0]["param"]) == (400, "/notifReqs/reportingThrs")
    assert (await world.server.call(world.client, "GET", world.path))[1]["notifReqs"] == EACH
    assert len(world.client.status.subscriptions) == 1

"""Subscriptions to FL events at a whole server: members that come, change and go (TS 23.482 8.5)."""

from collections.abc import AsyncIterator

import pytest

from ml_repository.database import Database
from tests.support import Listener
from tests.support_clients import SERVICE
from tests.support_fl_events import (
    ENTERING,
    LEAVING,
    SUBSCRIPTIONS,
    Json,
    World,
    event,
    fl_world,
    subscription,
    window,
)
from tests.support_fl_members import CAPABILITY

FIRST_HOUR = [{"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "01:00:00Z"}]
SECOND_HOUR = [{"timeOfDayStart": "01:00:00Z", "timeOfDayEnd": "02:00:00Z"}]
PLACE = {"cellIds": ["cell-1"]}


@pytest.fixture
async def world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Nobody is there yet."""
    async with fl_world(mongo_url, database) as found:
        yield found


async def test_who_is_there_and_who_comes(world: World) -> None:
    """Members of both registers enter, at the beginning and later; who does not train by FL is none."""
    await world.client("ue-1")
    await world.member("val-1", flMbrLocation=PLACE)
    await world.client("ue-infers", aimlOperations=["MODEL_INFERENCE"])
    await world.client("ue-splits", clientCap={**CAPABILITY, "mlAppType": "SPLIT_LEARNING"})
    await world.member("val-serves", suppAimlRole="FL_SERVER")
    await world.subscribe()
    await world.until_moved(("ue-1", ENTERING), ("val-1", ENTERING))
    assert {
        "flMbrInfo": {"flMbrId": "val-1", "flMbrType": "FL_CLIENT"},
        "flMbrEnterLeave": ENTERING,
        "areaOfInterest": PLACE,
    } in world.contents()
    await world.client("ue-2")
    await world.member("val-2")
    await world.until_moved(*((name, ENTERING) for name in ("ue-1", "val-1", "ue-2", "val-2")))


async def test_a_member_of_both_registers_is_one(world: World) -> None:
    """It enters once, and leaves when neither register has it any more."""
    await world.client("one")
    registration = world.uris.pop("one")
    await world.member("one")
    await world.subscribe()
    await world.until_moved(("one", ENTERING))
    await world.leave("one")
    await world.client("another")
    await world.until_moved(("one", ENTERING), ("another", ENTERING))
    world.uris["one"] = registration
    await world.leave("one")
    await world.until_moved(("one", ENTERING), ("another", ENTERING), ("one", LEAVING))


@pytest.mark.parametrize("register", ["client", "member"])
async def test_one_member_by_its_name(world: World, register: str) -> None:
    """Who is named is told of, as often as it comes and goes, and nobody else is."""
    await world.subscribe(flMbrInfo={"flMbrId": "one"})
    join = getattr(world, register)
    await join("another")
    await join("one")
    await world.until_moved(("one", ENTERING))
    await world.leave("one")
    await world.until_moved(("one", ENTERING), ("one", LEAVING))
    await join("one")
    await world.until_moved(("one", ENTERING), ("one", LEAVING), ("one", ENTERING))

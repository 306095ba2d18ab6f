"""Loads of FL members: measured in real trainings, and told of when they cross a threshold (TS 23.482 8.5.4)."""

import os
from collections.abc import AsyncIterator

import numpy as np
import pytest

from aimle_client.val import Objective, TrainingProfile
from ml_repository.database import Database
from ml_repository.loads import Loads
from tests.support import START
from tests.support_fl_events import World, event, fl_world
from tests.support_participant import participants, update
from tests.support_training import Pull, begin, ues, val_server

LOAD = "FL_MEMBER_LOAD"
ONE_ROUND = Objective(max_epochs=1)
EACH_MINUTE = {"reportReq": {"notifMethod": "PERIODIC", "repPeriod": 60}}


@pytest.fixture
async def world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Rounds may last for an hour."""
    async with fl_world(mongo_url, database, {"hfl.round_timeout": 3600.0}) as found:
        yield found


def told(world: World) -> list[int]:
    """The loads that were told, in order."""
    contents = world.contents(LOAD)
    assert all(content["flMbrInfo"]["flMbrId"] == "ue-1" for content in contents)
    return [content["aimle"]["load"] for content in contents]


def latest(world: World) -> dict[str, int]:
    """The loads of the last report, by member."""
    contents = world.subscriber.bodies[-1]["evtContentList"] if world.subscriber.bodies else []
    return {content["flMbrInfo"]["flMbrId"]: content["aimle"]["load"] for content in contents}


async def test_the_time_in_rounds(world: World) -> None:
    """A client that is in a round becomes busy, one that has reported becomes free; one without rounds has no load."""
    await world.client("ue-idle")
    async with participants(world.server.url, "ue-1") as [ue], val_server(world.server) as val:
        await world.subscribe(evtInfo=event(LOAD, flMbrLdInfo=40))
        await begin(val, members=["ue-1"], objective=ONE_ROUND)
        await world.until(lambda: ue.rounds)
        asked = world.clock.now()
        await world.until(lambda: told(world), step=1)
        [load] = told(world)
        share = (world.clock.now() - asked).total_seconds() / 3
        assert 40 <= load <= share + 1
        assert load >= share - 20, "written every 15 seconds, looked at every 30"
        await ue.participate(update(np.ones(4, np.float32)))
        await world.until(lambda: ue.rounds == 2)  # the new model is to be evaluated
        await ue.notify(hflTrngOut={"modelAccuracy": 90})
        await world.until(lambda: len(told(world)) == 2, step=2)
        assert told(world)[1] < 40


async def test_what_a_client_says_of_itself(world: World) -> None:
    """The load that comes with a report counts for ten minutes, and no longer; then nothing is left of it."""
    async with participants(world.server.url, "ue-1") as [ue], val_server(world.server) as val:
        await world.subscribe(evtInfo=event(LOAD, flMbrLdInfo=80))
        await begin(val, members=["ue-1"], objective=ONE_ROUND)
        await world.until(lambda: ue.rounds)
        assert (await ue.put(update(np.ones(4, np.float32))))[0] == 204
        assert await ue.notify(aimle={"load": 95}) == 204
        await world.until(lambda: ue.rounds == 2)  # the new model is to be evaluated
        reported = world.clock.now()
        assert await ue.notify(aimle={"load": 95}) == 204
        await world.until(lambda: told(world), step=2)
        assert told(world) == [95]
        await world.until(lambda: len(told(world)) == 2, step=5)
        assert told(world)[1] < 80
        assert (world.clock.now() - reported).total_seconds() >= 600


async def test_who_does_not_report(world: World) -> None:
    """Who has reported is free at once; who has not is busy until the round is closed without it, and then free too."""
    async with participants(world.server.url, "ue-1", "ue-2") as [one, two], val_server(world.server) as val:
        await world.subscribe(evtInfo=event(LOAD), aimle=EACH_MINUTE)
        profile = TrainingProfile(round_timeout=200, min_reports=0.5)
        await begin(val, members=["ue-1", "ue-2"], objective=ONE_ROUND, profile=profile)
        await world.until(lambda: one.rounds and two.rounds)
        await one.participate(update(np.ones(4, np.float32)))
        await world.until(lambda: latest(world).get("ue-2", 0) > 30, step=1)
        assert latest(world)["ue-1"] < 10
        await world.until(
            lambda: one.rounds == 2, step=1
        )  # the round is closed, the new model is to be evaluated
        await one.notify(hflTrngOut={"modelAccuracy": 90})
        await world.until(lambda: latest(world)["ue-2"] > 80, step=1)
        await world.until(lambda: latest(world)["ue-2"] == 0, step=1)


async def test_who_is_stopped(world: World) -> None:
    """A client at which the training is stopped has nothing more to do, while the others go on with the round."""
    async with participants(world.server.url, "ue-1", "ue-2") as [one, two], val_server(world.server) as val:
        await world.subscribe(evtInfo=event(LOAD), aimle=EACH_MINUTE)
        training = await begin(val, members=["ue-1", "ue-2"], objective=ONE_ROUND)
        await world.until(lambda: one.rounds and two.rounds)
        await val.stop_operation(clients=["ue-1"], training_id=training.id)
        await world.until(lambda: latest(world).get("ue-2", 0) > 30, step=1)
        assert latest(world)["ue-1"] < 10


async def test_in_reports(world: World) -> None:
    """A report names each member whose load is known, whatever it is."""
    async with participants(world.server.url, "ue-1") as [ue], val_server(world.server) as val:
        await world.subscribe(evtInfo=event(LOAD), aimle=EACH_MINUTE)
        await begin(val, members=["ue-1"], objective=ONE_ROUND)
        await world.until(lambda: ue.rounds)
        await world.until(lambda: len(told(world)) >= 3, step=2)
        assert told(world) == sorted(told(world))
        assert 0 < told(world)[-1] < 100


async def test_a_client_of_the_sdk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what its operating system measures."""
    processors = os.cpu_count() or 1
    monkeypatch.setattr(os, "getloadavg", lambda: (0.77 * processors, 0.0, 0.0))
    async with val_server(world.server) as val, ues(world.server, {"ue-1": Pull(1.0)}):
        await world.subscribe(evtInfo=event(LOAD, flMbrLdInfo=70))
        await begin(val, members=["ue-1"], objective=ONE_ROUND)
        await world.until(lambda: told(world), step=0.2)
    assert told(world) == [77]


async def test_loads_that_nobody_wants(world: World, database: Database) -> None:
    """They are written when there is a subscription, one document for the process, and not before."""
    async with participants(world.server.url, "ue-1") as [ue], val_server(world.server) as val:
        await begin(val, members=["ue-1"], objective=ONE_ROUND)
        await world.until(lambda: ue.rounds)
        started = world.clock.now()
        await world.until(lambda: (world.clock.now() - started).total_seconds() > 60, step=1)
        assert await database["loads"].count_documents({}) == 0
        await world.subscribe(evtInfo=event(LOAD, flMbrLdInfo=25))
        await world.until(lambda: told(world), step=1)
        assert await database["loads"].count_documents({}) == 1


async def test_what_several_processes_know(database: Database) -> None:
    """The highest figure counts; a process that has not been heard of for a minute does not."""
    one, other = Loads(database), Loads(Database(database.client, database.db, "another process"))
    await one.write({"ue-1": 10, "ue-2": 70}, START)
    await other.write({"ue-1": 30, "ue-2": 5, "ue-3": 1}, START)
    assert await one.of({"ue-1", "ue-2"}, START) == {"ue-1": 30, "ue-2": 70}
    later = START.replace(minute=1)
    await other.write({"ue-2": 5}, later)
    assert await one.of({"ue-1", "ue-2"}, later) == {"ue-2": 5}

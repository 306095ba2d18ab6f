"""A running training is told who comes, changes and goes while its rounds run (TS 23.482 8.12.2.1 step 3, 8.13)."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from aimle_client.testing import RunningServer
from aimle_client.val import Objective, Training, TrainingEvent, ValServer, member_criteria
from aimle_server.hfl.driver import LOOK_PAUSE
from aimle_server.procedures.external import External, NoService
from aimle_server.procedures.reporting import told
from aimle_server.watch.follower import Follower
from ml_repository.database import Database
from ml_repository.outbox import Outbox
from ml_repository.registrations import Registrations
from ml_repository.subscriptions import (
    OF_A_TRAINING,
    Happened,
    Looked,
    Positions,
    Subscription,
    Subscriptions,
)
from sbi.clock import NEVER
from tests.support import START, ManualClock, eventually
from tests.support_participant import Participant, participants, update
from tests.support_training import begin, events_of, reached, serving, val_server

UPDATE = update(np.ones(4, np.float32))
A_DAY = 86_400.0
FIRST_HOUR = [{"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "01:00:00Z"}]
LETTERS = {"dataSetAvail": {"dataSetIds": ["letters"]}}


def place(name: str) -> dict[str, Any]:
    """A LocationArea5G."""
    return {"civicAddresses": [{"country": "DE", "A3": name}]}


HALL = place("Hall")


@dataclass
class Places(NoService):
    """A location service that knows where everybody is."""

    elsewhere: dict[str, Any] = field(default_factory=dict)

    async def area_of(self, client_id: str) -> dict[str, Any] | None:
        """The client's place, for most the hall."""
        return self.elsewhere.get(client_id, HALL)


@dataclass
class World:
    """A server whose time the test moves, a VAL server, and AIMLE clients by hand."""

    server: RunningServer
    val: ValServer
    clock: ManualClock
    places: Places
    database: Database
    stack: AsyncExitStack

    async def come(self, name: str, **profile: Any) -> Participant:
        """A client that registers with these changes to its profile."""
        [client] = await self.stack.enter_async_context(participants(self.server.url, name))
        if profile:
            await client.register(**profile)
        return client

    async def train(self, number: int | None, **criteria: Any) -> Training:
        """A training of so many members by criteria."""
        return await begin(
            self.val,
            criteria=member_criteria(**criteria),
            num_clients=number,
            objective=Objective(max_epochs=50),
            member_updates=True,
        )

    async def until(self, predicate: Callable[[], Any]) -> None:
        """Return when it is so; time passes meanwhile, but not much."""

        async def so() -> Any:
            self.clock.advance(0.02)
            return predicate()

        await eventually(so)

    async def until_seen(self) -> None:
        """Return when all that has happened so far is looked at; some seconds have passed then."""
        moment, positions = self.clock.now(), Positions(self.database)

        async def so() -> bool:
            self.clock.advance(1)
            followed = await positions.seen("registrations")
            found = await self.database["subscriptions"].find_one({"kind": OF_A_TRAINING})
            assert found is not None
            return followed is not None and followed >= moment and found["due"] > self.clock.now()

        await eventually(so)


@pytest.fixture
async def world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Nobody is there yet; a round may last for a day."""
    clock, places = ManualClock(), Places()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serving(
                mongo_url,
                database,
                {"hfl.round_timeout": A_DAY},
                clock=clock,
                external=External(location=places),
            )
        )
        val = await stack.enter_async_context(val_server(server))
        yield World(server, val, clock, places, database, stack)


async def told_until_the_end(training: Training) -> list[TrainingEvent]:
    """All that the VAL server is told, after it has cancelled the training."""
    await training.cancel()
    return await events_of(training)


async def deregisters(world: World, client: Participant) -> None:
    await client.deregister()


async def states_something_else(world: World, client: Participant) -> None:
    await client.register(**LETTERS)


async def expires(world: World, client: Participant) -> None:
    world.clock.advance(3601)


async def moves_away(world: World, client: Participant) -> None:
    world.places.elsewhere[client.name] = place("Yard")
    world.clock.advance(31)


LEAVING = {
    "deregisters": ({}, {}, deregisters),
    "states something else": ({}, {}, states_something_else),
    "expires": ({}, {}, expires),
    "its hours end": ({"availTimeSchedCfgs": FIRST_HOUR}, {}, expires),
    "is not where it is wanted": ({}, {"location": HALL}, moves_away),
    "is not where it takes part": ({"availLocCfgs": [{"clientLoc": HALL}]}, {}, moves_away),
}
"""The client's profile, the criteria, and what happens."""


@pytest.mark.parametrize("how", LEAVING)
async def test_who_leaves_is_replaced_while_the_round_runs(world: World, how: str) -> None:
    """Another client has joined when the round ends, and the VAL server hears of both as the next round begins."""
    profile, criteria, leave = LEAVING[how]
    leaving = await world.come("ue-1", **profile)
    if how == "expires":
        await leaving.register(until=world.clock.now() + timedelta(hours=1))
    training = await world.train(1, **criteria)
    await leaving.asked()
    coming = await world.come("ue-2")
    await world.until_seen()
    assert coming.asked_to == []
    await leave(world, leaving)
    await world.until(lambda: coming.asked_to == ["JOIN"])
    status = await training.status()
    assert (status.state, status.round, coming.rounds) == ("ROUND_RUNNING", 0, 0)
    await leaving.participate(UPDATE)
    await world.until(lambda: coming.rounds == 1)
    await world.until(lambda: leaving.asked_to == ["JOIN", "DEPART"])
    assert leaving.subscription is None
    events = await told_until_the_end(training)
    changes = [(event.round, [(one.uri, one.selected) for one in event.members]) for event in events]
    assert changes[:3] == [
        (None, [(leaving.uri, True)]),
        (1, [(leaving.uri, True)]),
        (None, [(coming.uri, True), (leaving.uri, False)]),
    ]


async def test_no_registration_is_read_where_nothing_happens(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds between which nobody comes, changes or goes look at no client, and a change is looked at once."""
    clients = [await world.come("ue-1"), await world.come("ue-2")]
    training = await world.train(2)
    reads = reads_of_clients(monkeypatch)

    async def rounds(first: int, last: int) -> None:
        for number in range(first, last + 1):
            for client in clients:
                await world.until(lambda it=client, so_far=number: it.rounds == so_far)
                await client.participate(UPDATE)

    await rounds(1, 1)
    await world.until_seen()
    reads.clear()
    await rounds(2, 6)
    assert reads == []
    await clients[0].register()
    await world.until(lambda: reads)
    await rounds(7, 9)
    assert reads == ["by_client_ids"]
    await training.cancel()


async def test_members_that_state_something_all_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a round runs they are looked at together, every five seconds."""
    client = await world.come("ue-1")
    training = await world.train(1)
    await world.until(lambda: client.rounds == 1)
    await world.until_seen()
    world.clock.advance(LOOK_PAUSE)
    reads = reads_of_clients(monkeypatch)
    for _ in range(20):
        world.clock.advance(0.01)
        await client.register()
    await world.until(lambda: reads)
    begun = world.clock.now()
    await world.until(lambda: len(reads) == 2)
    assert (world.clock.now() - begun).total_seconds() > LOOK_PAUSE - 0.1
    await training.cancel()


def reads_of_clients(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, each time that registrations are looked up or searched, by which way."""
    reads: list[str] = []
    for name in ("by_client_ids", "candidates"):
        plain = getattr(Registrations, name)

        def counted(*args: Any, name: str = name, plain: Any = plain) -> Any:
            reads.append(name)
            return plain(*args)

        monkeypatch.setattr(Registrations, name, counted)
    return reads


async def test_a_newcomer_takes_a_free_place(world: World) -> None:
    """Where members are missing, one that registers while a round runs takes part in the next."""
    first = await world.come("ue-1")
    training = await world.train(2)
    await world.until(lambda: first.rounds == 1)
    await world.until_seen()
    second = await world.come("ue-2")
    await world.until(lambda: second.asked_to == ["JOIN"])
    assert (first.rounds, second.rounds) == (1, 0)
    await first.participate(UPDATE)
    await world.until(lambda: (first.rounds, second.rounds) == (2, 1))
    events = await told_until_the_end(training)
    assert [(one.uri, one.selected) for one in events[2].members] == [(second.uri, True)]


async def test_who_comes_back_in_time_stays(world: World) -> None:
    """A member that leaves and registers again while the round runs goes on as it was, and nobody is told."""
    client = await world.come("ue-1")
    training = await world.train(1)
    await world.until(lambda: client.rounds == 1)
    await world.until_seen()
    await client.deregister()
    await world.until_seen()
    await client.register()
    await world.until(lambda: client.asked_to == ["JOIN", "JOIN"])
    await client.participate(UPDATE)
    await world.until(lambda: client.rounds == 2)
    assert len(client.granted) == 1
    events = await told_until_the_end(training)
    assert [event.round for event in events] == [None, 1, None], "the first selection, a round, the end"


async def test_who_joined_for_nothing_is_told_so(world: World) -> None:
    """When the training ends first, or it leaves itself, a client that waited for its round departs."""
    leaving, patient, hasty = await world.come("ue-1"), await world.come("ue-2", **LETTERS), None
    training = await world.train(1)
    await world.until(lambda: leaving.rounds == 1)
    await world.until_seen()
    hasty = await world.come("ue-3")
    await leaving.deregister()
    await world.until(lambda: hasty.asked_to == ["JOIN"])
    await patient.register()
    await hasty.deregister()
    await world.until(lambda: hasty.asked_to == ["JOIN", "DEPART"])
    await world.until(lambda: patient.asked_to == ["JOIN"])
    await training.cancel()
    await world.until(lambda: patient.asked_to == ["JOIN", "DEPART"])
    await eventually(lambda: _nothing_is_watched(world.database))
    assert (patient.rounds, hasty.rounds) == (0, 0)


async def _nothing_is_watched(database: Database) -> bool:
    return await database["subscriptions"].count_documents({}) == 0


async def test_an_invitation_that_outlasts_the_round(world: World) -> None:
    """The next round waits for the answer, and nobody is asked twice."""
    leaving, slow = await world.come("ue-1"), await world.come("ue-2", **LETTERS)
    training = await world.train(1)
    await world.until(lambda: leaving.rounds == 1)
    await world.until_seen()
    slow.answering.clear()
    await slow.register()
    await leaving.deregister()
    await world.until(lambda: slow.asked_to == ["JOIN"])
    await leaving.participate(UPDATE)
    await reached(training, "SELECTING", rounds=1)
    slow.answering.set()
    await world.until(lambda: slow.rounds == 1)
    assert slow.asked_to == ["JOIN"]
    await training.cancel()


async def test_an_invitation_that_outlasts_the_training(world: World) -> None:
    """Who is just being asked when the training ends departs."""
    leaving, slow = await world.come("ue-1"), await world.come("ue-2", **LETTERS)
    training = await world.train(1)
    await world.until(lambda: leaving.rounds == 1)
    await world.until_seen()
    slow.answering.clear()
    await slow.register()
    await leaving.deregister()
    await world.until(lambda: slow.asked_to == ["JOIN"])
    await training.cancel()
    await eventually(lambda: slow.asked_to == ["JOIN", "DEPART"])
    await eventually(lambda: _nothing_is_watched(world.database))


async def test_a_client_at_which_the_operation_starts_again(world: World) -> None:
    """It may take part in the next round at once, although nothing happened to its registration."""
    clients = [await world.come("ue-1"), await world.come("ue-2")]
    training = await world.train(None)
    for client in clients:
        await world.until(lambda it=client: it.rounds == 1)
    await world.val.stop_operation(clients=["ue-2"], training_id=training.id)
    await clients[0].participate(UPDATE)
    await world.until(lambda: clients[0].rounds == 2)
    await world.until_seen()
    await world.val.start_operation(clients=["ue-2"], training_id=training.id)
    await clients[0].participate(UPDATE)
    await world.until(lambda: (clients[0].rounds, clients[1].rounds) == (3, 2))
    await training.cancel()


@pytest.mark.parametrize("path", ["/aimles-sel/v1/subscriptions", "/aimles-mlmr/v1/subscriptions"])
async def test_no_api_shows_it(world: World, path: str) -> None:
    """The subscription of a training is its owner's, and yet no subscription that there is a way to."""
    client = await world.come("ue-1")
    training = await world.train(1)
    await client.asked()
    [stored] = await world.database["subscriptions"].find({}).to_list(None)
    assert stored["_id"] == training.id
    for method in ("GET", "DELETE"):
        assert (await client.call(method, f"{world.server.url}{path}/{training.id}"))[0] == 404
    await training.cancel()


async def keep(store: Subscriptions, *topics: str) -> None:
    """Have looks come to nothing, and events with these topics looked at from now on; new topics take two looks."""
    for _ in range(2):
        read = await store.get(OF_A_TRAINING, "t", "val", START)
        assert read is not None
        looked = Looked({}, topics, NEVER)
        assert await store.save(read, looked, told(read, looked, START), START)


async def test_only_who_drives_the_training_looks_at_it(database: Database) -> None:
    """Its subscription is marked like any other, and no watch that claims what is due takes it."""
    store = Subscriptions(database, Outbox(database))
    await store.add(Subscription("t", OF_A_TRAINING, "val", {}, NEVER, {}), START)
    await keep(store, "client:ue-1")
    assert await store.due(["t"], START) == []
    assert await store.concern(["client:ue-1"], START) == 1
    assert await store.due(["t", "another"], START) == ["t"]
    assert await store.claim(START, NEVER, 5) == []


async def test_what_happens_together_is_one_mark(database: Database) -> None:
    """However many clients come at the same time, a subscription that they concern is marked once, and not again."""
    store = Subscriptions(database, Outbox(database))
    await store.add(Subscription("t", OF_A_TRAINING, "val", {}, NEVER, {}), START)
    await keep(store, "data:digits")

    async def events(since: datetime, now: datetime) -> list[Happened]:
        return [Happened(f"ue-{number}", START, ["data:digits", f"client:{number}"]) for number in range(9)]

    follower = Follower("registrations", events, store, Positions(database), "this process")
    for _ in range(2):
        await follower.follow(START)
    marked = await store.get(OF_A_TRAINING, "t", "val", START)
    assert marked is not None
    assert marked.marks == 1

"""Client selection subscriptions at a whole server: who is selected as clients come, change and go (8.13)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aimle_server.procedures import client_discovery, selection_subscriptions
from ml_repository.database import Database
from ml_repository.outbox import Outbox
from ml_repository.subscriptions import Looked, Subscription, Subscriptions, Told
from sbi.clock import NEVER, to_wire
from tests.support import START, Listener, eventually
from tests.support_clients import Json, criteria
from tests.support_selections import SUBSCRIPTIONS, World, open_world, refuse


@pytest.fixture
async def world(mongo_url: str, database: Database) -> AsyncIterator[World]:
    """Nobody is there yet."""
    async with open_world(mongo_url, database) as opened:
        yield opened


async def test_as_many_as_are_wanted(world: World) -> None:
    """Those that agree are selected and told of, and no more of them than were asked for."""
    for name in ("ue-1", "ue-2", "ue-3"):
        await world.add(name)
    await world.add("ue-4", refuse)
    uri = await world.subscribe(reqNum=2, suppFeat="1")
    await eventually(lambda: len(world.selected()) == 2)
    assert "ue-4" not in world.selected()
    assert all(replaced == "" for replaced, _ in world.reports())
    assert [world.told(name) for name in world.selected()] == [["JOIN"], ["JOIN"]]
    [asked] = {body["clientSetId"] for name in world.selected() for body in world.clients[name].bodies}
    assert uri.endswith(f"/{asked}")
    assert (await world.call("GET", uri))[1]["reqNum"] == 2


async def test_all_where_no_number_is_wanted(world: World) -> None:
    """Whoever fulfils the criteria is selected, also when it comes later."""
    await world.add("ue-1")
    await world.subscribe()
    await world.until_selected("ue-1")
    await world.add("ue-2")
    await world.add("ue-of-another-service", service="other")
    await world.until_selected("ue-1", "ue-2")
    assert world.told("ue-1") == ["JOIN"]


async def test_a_client_that_leaves_is_replaced(world: World) -> None:
    """Its deregistration is enough; the VAL server hears who came in its place."""
    await world.add("ue-1")
    await world.subscribe(reqNum=1)
    await world.until_selected("ue-1")
    await world.add("ue-2")
    assert (await world.call("DELETE", world.registrations["ue-1"]))[0] == 204
    await world.until_selected("ue-2")
    assert world.reports()[-1] == ("ue-1", "ue-2")
    await eventually(lambda: world.told("ue-1") == ["JOIN", "DEPART"])


async def test_a_client_that_no_longer_fulfils_the_criteria(world: World) -> None:
    """What it states anew counts at once; one that states the same stays."""
    await world.add("ue-1")
    await world.subscribe(reqNum=1)
    await world.until_selected("ue-1")
    await world.add("ue-2")
    await world.change("ue-1")
    await world.change("ue-1", aimlOperations=["MODEL_INFERENCE"])
    await world.until_selected("ue-2")
    assert world.reports() == [("", "ue-1"), ("ue-1", "ue-2")]


async def test_a_registration_that_expires(world: World) -> None:
    """Nobody says anything, and yet it is replaced."""
    await world.add("ue-1")
    await world.change("ue-1")
    await world.subscribe(reqNum=1)
    await world.until_selected("ue-1")
    await world.add("ue-2")
    world.clock.advance(3601)
    await world.until_selected("ue-2")


async def test_hours_that_end(world: World) -> None:
    """A client that is available for the first hour of each day gives its place to one that always is."""
    await world.add("ue-1", availTimeSchedCfgs=[{"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "01:00:00Z"}])
    await world.subscribe(reqNum=1)
    await world.until_selected("ue-1")
    await world.add("ue-2")
    world.clock.advance(3601)
    await world.until_selected("ue-2")


async def test_hours_that_begin(world: World) -> None:
    """Where clients are missing, one whose hours begin is found."""
    await world.add(
        "ue-1", unavblTimeSchedCfgs=[{"timeOfDayStart": "00:00:00Z", "timeOfDayEnd": "00:30:00Z"}]
    )
    await world.subscribe(reqNum=2)
    await world.add("ue-2")
    await world.until_selected("ue-2")
    world.clock.advance(1900)
    await world.until_selected("ue-1", "ue-2")


async def test_an_update_counts_at_once(world: World) -> None:
    """Fewer clients, others, and another address for the news."""
    for name in ("ue-1", "ue-2"):
        await world.add(name)
    await world.add("ue-3", service="other")
    uri = await world.subscribe(reqNum=2)
    await world.until_selected("ue-1", "ue-2")
    status, body, _ = await world.call("PATCH", uri, {"reqNum": 1})
    assert (status, body["reqNum"]) == (200, 1)
    await eventually(lambda: len(world.selected()) == 1)
    [left] = {"ue-1", "ue-2"} - world.selected()
    assert world.reports()[-1] == (left, "")
    await eventually(lambda: world.told(left) == ["JOIN", "DEPART"])
    async with Listener() as elsewhere:
        other = {"selCriteria": criteria(serviceReq={"valServId": "other"}), "notifUri": elsewhere.url()}
        assert (await world.call("PUT", uri, other))[:2] == (200, other)
        await eventually(lambda: elsewhere.bodies)
        [report] = elsewhere.bodies[0]["reports"]
        assert report["selected"] == "ue-3"


async def test_unsubscribing_ends_it(world: World) -> None:
    """The clients depart, nothing more is told, and the resource is gone."""
    await world.add("ue-1")
    uri = await world.subscribe(reqNum=2)
    await world.until_selected("ue-1")
    assert (await world.call("DELETE", uri))[0] == 204
    assert world.told("ue-1") == ["JOIN", "DEPART"]
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"reqNum": 3})):
        assert (await world.call(method, uri, body))[0] == 404
    again = await world.subscribe(reqNum=2)
    await world.add("ue-2")
    await eventually(lambda: "ue-2" in world.selected())
    assert {body["clientSetId"] for body in world.clients["ue-2"].bodies} == {again.rpartition("/")[2]}


async def test_a_subscription_that_expires(world: World) -> None:
    """From its end on it is gone, and its clients depart."""
    await world.add("ue-1")
    uri = await world.subscribe(reqNum=1, expTime=to_wire(START + timedelta(minutes=10)))
    await world.until_selected("ue-1")
    world.clock.advance(601)
    assert (await world.call("GET", uri))[0] == 404
    await world.add("ue-2")  # which wakes the watch
    await eventually(lambda: world.told("ue-1") == ["JOIN", "DEPART"])


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"reqNum": 0}, "/reqNum"),
        ({"reqNum": 10**6}, "/reqNum"),
        ({"expTime": to_wire(START)}, "/expTime"),
        ({"notifUri": "ftp://val.example/"}, "/notifUri"),
        ({"selCriteria": {}}, "/selCriteria/serviceReq"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(world: World, wrong: Json, param: str) -> None:
    """And nothing is watched."""
    body = {"selCriteria": criteria(), "notifUri": world.val.url(), **wrong}
    status, problem, _ = await world.call("POST", SUBSCRIPTIONS, body)
    assert status == 400
    assert param in {one["param"] for one in problem["invalidParams"]}


async def test_an_event_costs_what_it_concerns(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among 1,000 subscriptions to other services, a client that comes is compared with the criteria of one."""
    store = Subscriptions(database, Outbox(database))
    far = {"topics": [], "due": NEVER, "claimed": START}
    others = [
        {
            "_id": f"s-{number}", "kind": "selection", "owner": "val", "body": {}, "expires": NEVER, "state": {},
            "notified": 0, "version": 0, "marks": 0, **far, "topics": [f"svc:service-{number}"],
        }
        for number in range(1_000)
    ]  # fmt: skip
    await database["subscriptions"].insert_many(others)
    compared: list[Any] = []
    for module in (client_discovery, selection_subscriptions):
        plain = module.matches

        async def counted(wanted: Any, registration: Any, *rest: Any, plain: Any = plain) -> Any:
            compared.append((wanted["serviceReq"]["valServId"], registration["_id"]))
            return await plain(wanted, registration, *rest)

        monkeypatch.setattr(module, "matches", counted)
    await world.subscribe(reqNum=2)
    await world.add("ue-1")
    await world.until_selected("ue-1")
    assert 1 <= len(compared) <= 3
    assert await store.concern(["svc:nobody"], START) == 0


async def test_what_comes_while_it_is_looked_at(database: Database) -> None:
    """An event in between has it looked at once more, also one of what it has only then got a topic for.

    A change of the resource makes the look void.
    """
    await database.ensure_indexes({})
    store = Subscriptions(database, Outbox(database))
    await store.add(Subscription("s", "selection", "val", {"notifUri": "http://val/"}, NEVER, {}), START)
    [first] = await store.claim(START, START + timedelta(minutes=1), 5)
    assert await store.claim(START, START + timedelta(minutes=1), 5) == []
    looked = Looked({"selected": ["a"]}, ["client:a"], NEVER)
    told = Told({"reports": []}, NEVER, NEVER, {})
    assert await store.concern(["client:a"], START) == 0
    assert await store.save(first, looked, told, START)
    [again] = await store.claim(START, START + timedelta(minutes=1), 5)
    assert await store.save(again, looked, Told(None, NEVER, NEVER, {}), START)
    assert await store.claim(START, START, 5) == []
    assert await store.concern(["client:a", "svc:x"], START) == 1
    [second] = await store.claim(START, START + timedelta(minutes=1), 5)
    assert await store.concern(["client:a"], START) == 1
    assert await store.save(second, looked, told, START)
    [third] = await store.claim(START, START + timedelta(minutes=1), 5)
    assert await store.replace(replace(third, body={"notifUri": "http://other/"}), START)
    assert not await store.save(third, looked, told, START)
    assert await database["outbox"].count_documents({}) == 2

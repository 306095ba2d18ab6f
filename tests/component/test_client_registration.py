"""Aimles_AIMLEClientRegistration over HTTP and a real database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from ml_repository import registrations as store
from ml_repository.database import Database
from ml_repository.registrations import Registrations
from sbi.clock import from_wire, to_wire
from tests.support import START, ManualClock
from tests.support_client_apis import bearer, client_apis
from tests.support_clients import Json, reg_info

REGISTRATIONS = "/aimles-client-reg/v1/registrations"
ALICE, BOB = bearer("alice"), bearer("bob")

Client = TestClient[Any, Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def http(database: Database, clock: ManualClock, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(await client_apis(database, clock))


async def register(http: Client, info: Json, caller: dict[str, str] = ALICE) -> str:
    """The path of a new registration."""
    response = await http.post(REGISTRATIONS, json=info, headers=caller)
    assert response.status == 201, await response.text()
    return response.headers["Location"].removeprefix(str(http.make_url("")).rstrip("/"))


async def test_registering(http: Client) -> None:
    """201 with the URI of the registration, what was registered, and an expiry of the server's choice."""
    response = await http.post(REGISTRATIONS, json=reg_info() | {"suppFeat": "7"}, headers=ALICE)
    assert response.status == 201
    assert response.headers["Location"] == str(http.make_url(f"{REGISTRATIONS}/reg-1"))
    body = await response.json()
    assert body == {"regData": reg_info() | {"suppFeat": "0"}, "expTime": to_wire(START + timedelta(hours=1))}


@pytest.mark.parametrize("part", ["clientProfile", "suppServices"])
async def test_registering_needs_profile_and_services(http: Client, part: str) -> None:
    """A profile entry without its profile or its services is of no use and refused by name."""
    info = reg_info()
    del info["suppProfiles"][0][part]
    response = await http.post(REGISTRATIONS, json=info, headers=ALICE)
    assert response.status == 400
    assert [p["param"] for p in (await response.json())["invalidParams"]] == [f"/suppProfiles/0/{part}"]


async def test_address_that_may_not_be_called(http: Client) -> None:
    """A client cannot make the server call an address that its policy forbids."""
    info = reg_info(aimleClientUri="http://169.254.169.254/latest")
    response = await http.post(REGISTRATIONS, json=info, headers=ALICE)
    assert response.status == 400
    wrong = (await response.json())["invalidParams"][0]["param"]
    assert wrong == "/suppProfiles/0/clientProfile/aimleClientUri"


async def test_update_replaces_and_renews(http: Client, clock: ManualClock) -> None:
    """PUT replaces what the client states, adds and removes services, and renews the expiry."""
    path = await register(http, reg_info(service="first"))
    clock.advance(1800)
    response = await http.put(path, json={"regData": reg_info(service="second")}, headers=ALICE)
    assert response.status == 200
    body = await response.json()
    assert body["regData"] == reg_info(service="second")
    assert from_wire(body["expTime"]) == START + timedelta(minutes=90)


async def test_update_may_leave_out_what_stays(http: Client) -> None:
    """An entry of an update without a profile, or without services, keeps those it has."""
    path = await register(http, reg_info())
    services = [{"valServiceId": "another"}]
    only_services = {"aimleClientId": {"valUeId": "ue-1"}, "suppProfiles": [{"suppServices": services}]}
    response = await http.put(path, json={"regData": only_services}, headers=ALICE)
    assert response.status == 200
    kept = reg_info()["suppProfiles"][0]["clientProfile"]
    assert (await response.json())["regData"]["suppProfiles"] == [
        {"clientProfile": kept, "suppServices": services}
    ]


async def test_update_that_does_not_say_which_entry_stays(http: Client) -> None:
    """An incomplete entry in a list of another length could be any of the registered ones: refused by name."""
    path = await register(http, reg_info())
    longer = reg_info()
    longer["suppProfiles"] += [{"suppServices": [{"valServiceId": "another"}]}]
    response = await http.put(path, json={"regData": longer}, headers=ALICE)
    assert response.status == 400
    assert (await response.json())["invalidParams"][0]["param"] == "/regData/suppProfiles/1/clientProfile"


@pytest.mark.parametrize(("hours", "granted"), [(2, 2), (100, 4)])
async def test_proposed_expiry(http: Client, hours: int, granted: int) -> None:
    """A proposed expiry is granted up to the server's maximum."""
    path = await register(http, reg_info())
    proposal = {"regData": reg_info(), "expTime": to_wire(START + timedelta(hours=hours))}
    response = await http.put(path, json=proposal, headers=ALICE)
    assert from_wire((await response.json())["expTime"]) == START + timedelta(hours=granted)


async def test_proposed_expiry_in_the_past(http: Client) -> None:
    """An expiry that is not in the future is refused by name, and the registration stays as it was."""
    path = await register(http, reg_info())
    proposal = {"regData": reg_info(), "expTime": to_wire(START)}
    response = await http.put(path, json=proposal, headers=ALICE)
    assert response.status == 400
    assert (await response.json())["invalidParams"][0]["param"] == "/expTime"
    assert (await http.delete(path, headers=ALICE)).status == 204


async def test_update_cannot_change_the_client(http: Client) -> None:
    """A registration belongs to one client for good."""
    path = await register(http, reg_info("ue-1"))
    response = await http.put(path, json={"regData": reg_info("ue-2")}, headers=ALICE)
    assert response.status == 400
    assert (await response.json())["invalidParams"][0]["param"] == "/regData/aimleClientId"


async def test_deregistering(http: Client) -> None:
    """After a DELETE the registration is gone."""
    path = await register(http, reg_info())
    assert (await http.delete(path, headers=ALICE)).status == 204
    assert (await http.delete(path, headers=ALICE)).status == 404


async def test_others_do_not_see_a_registration(http: Client) -> None:
    """Somebody else's registration is as unknown as one that does not exist."""
    path = await register(http, reg_info())
    foreign = await http.put(path, json={"regData": reg_info()}, headers=BOB)
    unknown = await http.put(f"{REGISTRATIONS}/nothing", json={"regData": reg_info()}, headers=BOB)
    assert (foreign.status, unknown.status) == (404, 404)
    assert (await foreign.json()).keys() == (await unknown.json()).keys()
    assert (await http.delete(path, headers=BOB)).status == 404
    assert (await http.delete(path, headers=ALICE)).status == 204


async def test_expired_registration_is_gone(http: Client, clock: ManualClock) -> None:
    """From its expiry on a registration cannot be renewed any more, whether or not it was cleaned up."""
    path = await register(http, reg_info())
    clock.advance(3599)
    assert (await http.put(path, json={"regData": reg_info()}, headers=ALICE)).status == 200
    clock.advance(3600)
    assert (await http.put(path, json={"regData": reg_info()}, headers=ALICE)).status == 404
    assert (await http.delete(path, headers=ALICE)).status == 404


async def test_owner_registers_again(http: Client) -> None:
    """The same owner's new registration of a client replaces the old one, whose URI is gone."""
    old = await register(http, reg_info())
    new = await register(http, reg_info(service="other"))
    assert (await http.delete(old, headers=ALICE)).status == 404
    assert (await http.delete(new, headers=ALICE)).status == 204


async def test_client_of_another_owner(http: Client, clock: ManualClock) -> None:
    """A client ID that somebody has registered is refused to anybody else until that expires."""
    await register(http, reg_info())
    response = await http.post(REGISTRATIONS, json=reg_info(), headers=BOB)
    assert response.status == 403
    assert (await response.json())["cause"] == "CLIENT_ID_IN_USE"
    clock.advance(3600)
    await register(http, reg_info(), BOB)


async def test_race_for_a_client_id(http: Client) -> None:
    """Of many owners that register one client at the same moment, exactly one succeeds."""
    calls = [http.post(REGISTRATIONS, json=reg_info(), headers=bearer(f"owner-{n}")) for n in range(12)]
    statuses = sorted(response.status for response in await asyncio.gather(*calls))
    assert statuses == [201] + [403] * 11


async def test_history_outlives_a_new_registration(http: Client, database: Database) -> None:
    """A client that dropped out of rounds cannot wash its record by registering again."""
    await register(http, reg_info())
    registrations = Registrations(database)
    await registrations.record_participation({"ue-1": (3, 2), "nobody": (1, 1)})
    await registrations.record_participation({"ue-1": (1, 0)})
    await register(http, reg_info())
    found = await registrations.by_client_ids(["ue-1", "nobody"], START)
    assert {name: document["_stats"] for name, document in found.items()} == {
        "ue-1": {"asked": 4, "dropped": 2}
    }


async def test_cleaning_up(http: Client, database: Database, clock: ManualClock) -> None:
    """Cleaning up removes the expired registrations and no other."""
    await register(http, reg_info("ue-1"))
    clock.advance(1800)
    await register(http, reg_info("ue-2"))
    clock.advance(1800)
    registrations = Registrations(database)
    assert await registrations.remove_expired(clock.now()) == 1
    assert list(await registrations.by_client_ids(["ue-1", "ue-2"], START)) == ["ue-2"]


@pytest.mark.parametrize(
    "query",
    [
        store.owned("reg-1", "alice", START),
        store.tagged("svc:traffic-forecast", 0, store.PLACES),
        store.expired(START),
    ],
    ids=["owned", "tagged", "expired"],
)
async def test_no_query_reads_the_collection(http: Client, database: Database, query: Json) -> None:
    """Whatever the registrations are asked beside their client IDs, the database looks it up in an index."""
    for number in range(20):
        await register(http, reg_info(f"ue-{number}", service=f"service-{number}"))
    plan = await database[store.COLLECTION].find(query).explain()
    assert plan["executionStats"]["totalDocsExamined"] <= 2, plan["queryPlanner"]["winningPlan"]

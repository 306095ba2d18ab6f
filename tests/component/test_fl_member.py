"""FL members at the AIMLE server and at the ML repository (TS 23.482 8.4), over HTTP and a real database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from aimle_server.apis import fl_member as at_server
from ml_repository import fl_members as store
from ml_repository.apis import fl_member as at_repository
from ml_repository.database import Database
from ml_repository.fl_member_registration import FLMemberRegistration
from ml_repository.fl_members import FLMembers
from ml_repository.keys import FL_MEMBERS
from ml_repository.repository import Repository
from sbi.clock import to_wire
from sbi.mount import AUTHENTICATOR, PUBLIC_URL, mount
from sbi.problems import problem_middleware
from tests.support import START, ManualClock
from tests.support_client_apis import NameIsToken, bearer, ids
from tests.support_fl_members import AREA, WEEKDAYS, Json, fl_mbr, whole_fl_mbr

SERVER, REPOSITORY = "/aimles-flreg/v1/configurations", "/mlr-fl/v1/configurations"
ALICE, BOB = bearer("alice"), bearer("bob")

Client = TestClient[Any, Any]

at_both = pytest.mark.parametrize("collection", [SERVER, REPOSITORY], ids=["server", "repository"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def http(database: Database, clock: ManualClock, aiohttp_client: AiohttpClient) -> Client:
    """Both APIs on one register."""
    await database.ensure_indexes(store.INDEXES)
    app = web.Application(middlewares=[problem_middleware])
    app[AUTHENTICATOR] = NameIsToken()
    app[PUBLIC_URL] = ""
    app[FL_MEMBERS] = FLMemberRegistration(FLMembers(database), clock, ids("member"))
    mount(app, [at_server.API, at_repository.API])
    return await aiohttp_client(app)


async def register(
    http: Client, member: Json, caller: dict[str, str] = ALICE, collection: str = SERVER
) -> str:
    """The path of a new registration."""
    response = await http.post(collection, json=member, headers=caller)
    assert response.status == 201, await response.text()
    return response.headers["Location"].removeprefix(str(http.make_url("")).rstrip("/"))


async def call(
    http: Client, method: str, path: str, body: Json | None = None, caller: dict[str, str] = ALICE
) -> tuple[int, Any]:
    """Status and JSON of a request."""
    response = await http.request(method, path, json=body, headers=caller)
    return response.status, await response.json() if await response.read() else None


async def found(database: Database, clock: ManualClock, **wanted: str) -> set[str]:
    """The flMbrIds of the members that a search finds now."""
    return {member["flMbrId"] async for member in FLMembers(database).find(clock.now(), **wanted)}


def valid(start: int, stop: int) -> Json:
    """A TimeWindow, in hours from START."""
    return {
        "startTime": to_wire(START + timedelta(hours=start)),
        "stopTime": to_wire(START + timedelta(hours=stop)),
    }


@at_both
async def test_registering(http: Client, collection: str) -> None:
    """201 with the URI of the registration, which gives what was registered, every attribute of it."""
    response = await http.post(collection, json=whole_fl_mbr(), headers=ALICE)
    assert response.status == 201
    assert response.headers["Location"] == str(http.make_url(f"{collection}/member-1"))
    assert await response.json() == whole_fl_mbr()
    assert await call(http, "GET", f"{collection}/member-1") == (200, whole_fl_mbr())


@at_both
async def test_both_apis_have_the_same_members(http: Client, collection: str) -> None:
    """What was registered by one API is read, changed and removed by its owner with the other, by the same ID."""
    path = await register(http, fl_mbr(), collection=collection)
    here, there = (
        path,
        path.replace(*((SERVER, REPOSITORY) if collection == SERVER else (REPOSITORY, SERVER))),
    )
    assert here != there
    assert await call(http, "GET", there) == (200, fl_mbr())
    changed = fl_mbr(supMlModelId=["model-1"])
    assert await call(http, "PUT", there, changed) == (200, changed)
    assert await call(http, "GET", here) == (200, changed)
    assert (await call(http, "GET", there, caller=BOB))[0] == 404
    assert (await call(http, "DELETE", there))[0] == 204
    assert (await call(http, "GET", here))[0] == 404


async def test_put_replaces(http: Client) -> None:
    """Nothing stays of what a PUT does not state."""
    path = await register(http, whole_fl_mbr())
    other = fl_mbr(suppAimlRole="FL_SERVER", flMbrCapability=None, flMbrAvailSch=WEEKDAYS)
    assert await call(http, "PUT", path, other) == (200, other)
    assert await call(http, "GET", path) == (200, other)


async def test_patch_merges(http: Client) -> None:
    """A PATCH changes what it names, removes what it has null for, and leaves the rest alone."""
    path = await register(http, whole_fl_mbr())
    patch = {"flMbrId": "val-1", "supMlModelId": ["model-3"], "areaValidity": None}
    expected = whole_fl_mbr() | {"supMlModelId": ["model-3"]}
    del expected["areaValidity"]
    assert await call(http, "PATCH", path, patch) == (200, expected)
    assert await call(http, "GET", path) == (200, expected)


async def test_patch_that_only_removes(http: Client) -> None:
    """An attribute that a PATCH removes is one of those of which it has to name one."""
    path = await register(http, fl_mbr(areaValidity=AREA))
    assert await call(http, "PATCH", path, {"flMbrId": "val-1", "areaValidity": None}) == (200, fl_mbr())


@pytest.mark.parametrize("patch", [{}, {"flMbrCapability": {}}, {"allowedMno": None}])
async def test_patch_that_changes_nothing(http: Client, patch: Json) -> None:
    """A PATCH without any of the attributes of which it needs one is refused; a capability is not among them."""
    path = await register(http, fl_mbr())
    status, problem = await call(http, "PATCH", path, {"flMbrId": "val-1"} | patch)
    assert status == 400
    assert {param["param"] for param in problem["invalidParams"]} == {
        "/suppAimlRole", "/flMbrAvailSch", "/supMlModelId", "/areaValidity", "/timeValidity"
    }  # fmt: skip


async def test_patch_cannot_break_the_member(http: Client) -> None:
    """What a member needs at least one of cannot be removed, nor what it must have; it stays as it was."""
    member = fl_mbr(flMbrCapability=None, flMbrAvailSch=WEEKDAYS)
    path = await register(http, member)
    for name, named in (
        ("flMbrAvailSch", ["/flMbrCapability", "/flMbrAvailSch"]),
        ("suppAimlRole", ["/suppAimlRole"]),
    ):
        status, problem = await call(http, "PATCH", path, {"flMbrId": "val-1", name: None})
        assert status == 400
        assert [param["param"] for param in problem["invalidParams"]] == named
    assert await call(http, "GET", path) == (200, member)


@pytest.mark.parametrize(
    ("method", "body"), [("PUT", fl_mbr("val-2")), ("PATCH", {"flMbrId": "val-2", "supMlModelId": ["m"]})]
)
async def test_a_registration_is_of_one_member(http: Client, method: str, body: Json) -> None:
    """Another flMbrId than the registered one is refused by name."""
    path = await register(http, fl_mbr("val-1"))
    status, problem = await call(http, method, path, body)
    assert (status, problem["invalidParams"][0]["param"]) == (400, "/flMbrId")
    assert await call(http, "GET", path) == (200, fl_mbr("val-1"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_time_that_is_over(http: Client, method: str) -> None:
    """Whichever way it comes, a time that has ended already is refused by name, and nothing is changed."""
    path = await register(http, fl_mbr())
    over = {"timeValidity": valid(-2, -1)}
    body = {"flMbrId": "val-1"} | over if method == "PATCH" else fl_mbr(**over)
    status, problem = await call(http, method, SERVER if method == "POST" else path, body)
    assert (status, [param["param"] for param in problem["invalidParams"]]) == (
        400,
        ["/timeValidity/stopTime"],
    )
    assert await call(http, "GET", path) == (200, fl_mbr())


async def test_changes_at_the_same_moment(http: Client) -> None:
    """Of changes that come together none is lost."""
    path = await register(http, fl_mbr())
    changes: Json = {
        "suppAimlRole": "FL_SERVER",
        "flMbrAvailSch": WEEKDAYS,
        "supMlModelId": ["model-1"],
        "areaValidity": AREA,
        "timeValidity": valid(0, 1),
    }
    patches = [{"flMbrId": "val-1", name: value} for name, value in changes.items()]
    answers = await asyncio.gather(*(call(http, "PATCH", path, patch) for patch in patches))
    assert [status for status, _ in answers] == [200] * len(patches)
    assert await call(http, "GET", path) == (200, fl_mbr() | changes)


@at_both
async def test_deregistering(http: Client, database: Database, clock: ManualClock, collection: str) -> None:
    """After a DELETE the member is gone."""
    path = await register(http, fl_mbr(), collection=collection)
    assert (await call(http, "DELETE", path))[0] == 204
    assert (await call(http, "GET", path))[0] == 404
    assert (await call(http, "DELETE", path))[0] == 404
    assert await found(database, clock, role="FL_CLIENT") == set()


@at_both
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GET", None),
        ("PUT", fl_mbr()),
        ("PATCH", {"flMbrId": "val-1", "supMlModelId": ["m"]}),
        ("DELETE", None),
    ],
)
async def test_others_do_not_see_a_registration(
    http: Client, collection: str, method: str, body: Json | None
) -> None:
    """Somebody else's registration is as unknown as one that does not exist."""
    path = await register(http, fl_mbr(), collection=collection)
    foreign = await call(http, method, path, body, BOB)
    unknown = await call(http, method, f"{collection}/nothing", body, BOB)
    assert foreign[0] == unknown[0] == 404
    assert foreign[1] | {"detail": ""} == unknown[1] | {"detail": ""}
    assert await call(http, "GET", path) == (200, fl_mbr())


async def test_a_member_counts_from_its_start_to_its_end(
    http: Client, database: Database, clock: ManualClock
) -> None:
    """Its owner reads it before; it is found from its start on; at its end it is gone, though nobody cleaned up."""
    member = fl_mbr(timeValidity=valid(1, 2), supMlModelId=["m"])
    path = await register(http, member)

    async def seen() -> list[set[str]]:
        return [await found(database, clock, role="FL_CLIENT"), await found(database, clock, model="m")]

    clock.advance(3599)
    assert await call(http, "GET", path) == (200, member)
    assert (await call(http, "POST", SERVER, fl_mbr(), BOB))[0] == 403
    assert await seen() == [set(), set()]
    clock.advance(1)
    assert await seen() == [{"val-1"}, {"val-1"}]
    clock.advance(3599)
    assert await call(http, "PUT", path, member) == (200, member)
    clock.advance(1)
    assert await seen() == [set(), set()]
    patch = {"flMbrId": "val-1", "timeValidity": valid(2, 3)}
    for method, body in (("GET", None), ("PUT", fl_mbr()), ("PATCH", patch), ("DELETE", None)):
        assert (await call(http, method, path, body))[0] == 404


async def test_the_end_can_be_moved(http: Client, clock: ManualClock) -> None:
    """A member that is changed in time lives as long as it says then; without timeValidity, until it leaves."""
    path = await register(http, fl_mbr(timeValidity=valid(0, 1)))
    patch = {"flMbrId": "val-1", "timeValidity": valid(0, 2)}
    assert (await call(http, "PATCH", path, patch))[0] == 200
    clock.advance(3600)
    patch["timeValidity"] = None
    assert await call(http, "PATCH", path, patch) == (200, fl_mbr())
    clock.advance(100 * 365 * 24 * 3600)
    assert await call(http, "GET", path) == (200, fl_mbr())


async def test_owner_registers_again(http: Client) -> None:
    """The same owner's new registration of a member replaces the old one, whose URI is gone, in either API."""
    old = await register(http, fl_mbr())
    new = await register(http, fl_mbr(suppAimlRole="FL_SERVER"), collection=REPOSITORY)
    assert (await call(http, "GET", old))[0] == 404
    assert (await call(http, "GET", new))[1]["suppAimlRole"] == "FL_SERVER"


async def test_member_of_another_owner(http: Client, clock: ManualClock) -> None:
    """A member that somebody has registered is refused to anybody else, in either API, until that ends."""
    await register(http, fl_mbr(timeValidity=valid(0, 1)))
    for collection in (SERVER, REPOSITORY):
        status, problem = await call(http, "POST", collection, fl_mbr(), BOB)
        assert (status, problem["cause"]) == (403, "FL_MEMBER_ID_IN_USE")
        assert "alice" not in str(problem)
    clock.advance(3600)
    path = await register(http, fl_mbr(), BOB)
    assert (await call(http, "POST", SERVER, fl_mbr(), ALICE))[0] == 403
    assert (await call(http, "DELETE", path, caller=BOB))[0] == 204
    await register(http, fl_mbr(), ALICE)


async def test_race_for_a_member(http: Client) -> None:
    """Of many owners that register one member at the same moment, exactly one succeeds."""
    calls = [call(http, "POST", SERVER, fl_mbr(), bearer(f"owner-{n}")) for n in range(12)]
    statuses = sorted(status for status, _ in await asyncio.gather(*calls))
    assert statuses == [201] + [403] * 11


async def test_owner_that_registers_many_times_at_once(http: Client) -> None:
    """One owner's registrations of one member all succeed, and one of them is left."""
    paths = await asyncio.gather(*(register(http, fl_mbr()) for _ in range(12)))
    statuses = [(await call(http, "GET", path))[0] for path in paths]
    assert sorted(statuses) == [200] + [404] * 11


async def test_finding_members(http: Client, database: Database, clock: ManualClock) -> None:
    """Members are found by role, by a model that they support, and by both, whoever registered them."""
    await register(http, fl_mbr("a", supMlModelId=["m-1", "m-2"]))
    await register(http, fl_mbr("b", supMlModelId=["m-2"]), BOB, REPOSITORY)
    await register(http, fl_mbr("c", supMlModelId=["m-2"], suppAimlRole="FL_SERVER"))
    await register(http, fl_mbr("d"))
    assert await found(database, clock, role="FL_CLIENT") == {"a", "b", "d"}
    assert await found(database, clock, role="FL_SERVER") == {"c"}
    assert await found(database, clock, model="m-1") == {"a"}
    assert await found(database, clock, model="m-2") == {"a", "b", "c"}
    assert await found(database, clock, role="FL_CLIENT", model="m-2") == {"a", "b"}
    assert await found(database, clock, model="m-3") == set()
    with pytest.raises(ValueError, match="role, model"):
        await found(database, clock)


async def test_what_is_found_is_what_was_registered(http: Client, database: Database) -> None:
    """A search gives the FlMbr, and nothing of what the register keeps beside it."""
    await register(http, whole_fl_mbr())
    assert [member async for member in FLMembers(database).find(START, role="FL_CLIENT")] == [whole_fl_mbr()]


async def test_cleaning_up(http: Client, database: Database, clock: ManualClock) -> None:
    """Cleaning up the repository removes the members whose time is over and no other."""
    await register(http, fl_mbr("over", timeValidity=valid(0, 1)))
    await register(http, fl_mbr("running", timeValidity=valid(0, 2)))
    await register(http, fl_mbr("to come", timeValidity=valid(5, 6)))
    await register(http, fl_mbr("endless"))
    clock.advance(3600)
    repository = await Repository.open(database, clock, ids("id"))
    await repository.remove_expired(clock.now())
    kept = {document["_id"] async for document in database[store.COLLECTION].find()}
    assert kept == {"running", "to come", "endless"}


@pytest.mark.parametrize(
    "query",
    [
        store.owned("member-1", "alice", START),
        store.in_role("ROLE-1", START),
        store.supporting("model-1", START),
        store.expired(START),
    ],
    ids=["owned", "role", "model", "expired"],
)
async def test_no_query_reads_the_collection(http: Client, database: Database, query: Json) -> None:
    """Whatever the register is asked, the database looks it up in an index."""
    for number in range(20):
        await register(
            http, fl_mbr(f"m-{number}", suppAimlRole=f"ROLE-{number}", supMlModelId=[f"model-{number}"])
        )
    plan = await database[store.COLLECTION].find(query).explain()
    assert plan["executionStats"]["totalDocsExamined"] <= 2, plan["queryPlanner"]["winningPlan"]

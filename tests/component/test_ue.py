"""An AIMLE client against a server on real sockets: registration, participation, operations (TS 23.482)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimle_client.errors import Forbidden, ServerUnavailable
from aimle_client.http import RetryPolicy
from aimle_client.runtime.operations import Operation
from aimle_client.ue import AimleClient, DatasetOffer, DefaultPolicy
from schemas.client_registration import AimleClientRegInfo
from tests.support import Listener, ManualClock, eventually
from tests.support_ue import SCOPES, Adder, MiniServer

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def clock() -> ManualClock:
    """The time of both sides."""
    return ManualClock()


@pytest.fixture
async def server(clock: ManualClock, tmp_path: Path) -> AsyncIterator[MiniServer]:
    """The AIMLE server."""
    async with MiniServer(tmp_path, clock) as running:
        yield running


def participation(part: str = "JOIN", **changes: Any) -> dict[str, Any]:
    """An AimlecParticipationReq that the default policy says yes to."""
    return {
        "requesterId": "server-1",
        "clientSetId": "set-1",
        "clientSetPart": part,
        "mlModelId": "m",
        "schedAimlOperations": [{"aimlOperation": "MODEL_TRAINING"}],
        "dataSetReq": {"avail": {"ids": ["digits"]}},
        "serviceReq": {"valServId": "val-vision"},
    } | changes


def operation(mode: str, **changes: Any) -> dict[str, Any]:
    """An AimleClientServOpReq."""
    return {"aimleServerId": "server-1", "servOpId": "op-1", "servOpMode": mode} | changes


async def test_it_registers_where_it_listens_and_leaves_nothing_behind(server: MiniServer) -> None:
    """Inside `async with` the server has a valid registration with the client's address; after it, none."""
    async with server.client(Adder()) as client:
        (document,) = server.registrations.values()
        assert not AimleClientRegInfo().validate(document)
        profile = document["suppProfiles"][0]["clientProfile"]
        assert document["aimleClientId"] == {"valUeId": "ue-7"}
        assert profile["aimleClientUri"] == client.status.uri
        assert profile["dataSetAvail"] == {"dataSetIds": ["digits"]}
        assert profile["clientCap"]["mlAppType"] == "FEDERATED_LEARNING"
        assert document["suppProfiles"][0]["suppServices"][0]["valServiceId"] == "val-vision"
        assert client.status.registration_id in server.registrations
    assert not server.registrations


async def test_an_application_describes_its_client(server: MiniServer) -> None:
    """Services with levels, sizes and features of data sets, and any attribute of the profile can be given."""
    client = server.client(
        Adder(),
        services={"val-vision": "PREMIUM_RESOURCE_USAGE"},
        datasets={"b": DatasetOffer(Adder(), 10, ("y", "x")), "a": DatasetOffer(Adder(), 5)},
        profile={"aimlModelTypes": None, "clientCap": {"rsrcUsageLvl": "LIMITED_RESOURCE_USAGE"}},
        public_url="http://ue-7.example:9000/",
    )
    async with client:
        (document,) = server.registrations.values()
    supported = document["suppProfiles"][0]
    profile = supported["clientProfile"]
    assert supported["suppServices"] == [
        {"valServiceId": "val-vision", "servPermLevel": "PREMIUM_RESOURCE_USAGE"}
    ]
    assert profile["aimleClientUri"] == "http://ue-7.example:9000"
    assert profile["dataSetAvail"] == {"dataSetIds": ["a", "b"], "size": 15, "features": ["x", "y"]}
    assert "aimlModelTypes" not in profile
    assert profile["clientCap"] == {
        "mlAppType": "FEDERATED_LEARNING",
        "rsrcUsageLvl": "LIMITED_RESOURCE_USAGE",
    }


async def test_it_renews_before_its_registration_expires(server: MiniServer, clock: ManualClock) -> None:
    """After two thirds of the granted time comes the next PUT, and not before."""
    async with server.client(Adder()) as client:
        first = client.status.expires
        for renewals in (1, 2):
            await eventually(lambda: clock._sleepers)
            clock.advance(199)
            await asyncio.sleep(0)
            assert len(server.calls) == renewals
            clock.advance(1)
            await eventually(lambda count=renewals + 1: len(server.calls) == count)
            assert server.calls[-1][0] == "PUT"
            assert server.calls[-1][2]["regData"] == server.calls[0][2]
        await eventually(lambda: client.status.expires > first)


async def test_it_registers_again_where_the_server_has_forgotten_it(
    server: MiniServer, clock: ManualClock
) -> None:
    """404 to a renewal leads to a new registration; also one without an end is confirmed each hour."""
    server.lifetime = None
    async with server.client(Adder()) as client:
        server.registrations.clear()
        await eventually(lambda: clock._sleepers)
        clock.advance(3600)
        await eventually(lambda: server.registrations)
        assert [method for method, *_ in server.calls] == ["POST", "PUT", "POST"]
        await eventually(lambda: client.status.registration_id in server.registrations)


async def test_it_outlives_a_server_that_is_away(server: MiniServer, clock: ManualClock) -> None:
    """A renewal that fails is tried again soon, and the client goes on."""
    server.refuse["PUT"] = 500
    async with server.client(Adder(), retry=ONCE) as client:
        await eventually(lambda: clock._sleepers)
        clock.advance(200)
        await eventually(lambda: len(server.calls) == 2 and clock._sleepers)
        server.refuse.clear()
        clock.advance(30)
        await eventually(lambda: len(server.calls) == 3)
        assert client.status.registration_id in server.registrations


async def test_a_client_that_is_not_wanted_any_more_is_told(server: MiniServer, clock: ManualClock) -> None:
    """A renewal that is forbidden ends run_forever with the server's answer."""
    async with server.client(Adder()) as client:
        running = asyncio.create_task(client.run_forever())
        server.refuse["PUT"] = 403
        await eventually(lambda: clock._sleepers)
        clock.advance(200)
        with pytest.raises(Forbidden):
            await running


async def test_leaving_succeeds_without_the_server(server: MiniServer) -> None:
    """A client that cannot deregister leaves all the same; its registration will expire."""
    async with server.client(Adder(), retry=ONCE) as client:
        server.refuse["DELETE"] = 503
    assert server.calls[-1][0] == "DELETE"
    assert client.status.registration_id is None


async def test_nothing_stays_open_when_registering_fails(server: MiniServer) -> None:
    """A refused registration is raised, and the client's port is closed again."""
    server.refuse["POST"] = 403
    client = server.client(Adder(), listen=("127.0.0.1", 0))
    with pytest.raises(Forbidden):
        async with client:
            pytest.fail("it must not start")
    async with Listener() as gone:
        url = gone.url("")
    with pytest.raises(ServerUnavailable):
        async with AimleClient("ue-7", url, services=[], datasets={"digits": Adder()}, retry=ONCE):
            pytest.fail("it must not start")


def test_a_wildcard_address_needs_a_public_one() -> None:
    """Nobody can call 0.0.0.0, so the profile must not name it."""
    with pytest.raises(ValueError, match="public_url"):
        AimleClient("ue-7", "http://server", services=[], datasets={"digits": Adder()}, listen=("0.0.0.0", 0))


@pytest.mark.parametrize(
    ("wrong", "kind", "reason"),
    [
        ({"services": "val-vision"}, TypeError, r"services: .*\['val-vision'\]"),
        ({"datasets": {}}, ValueError, "datasets"),
        ({"datasets": {"digits": object()}}, TypeError, r"datasets\['digits'\]: .*object has no fit"),
        ({"datasets": {"digits": DatasetOffer(object())}}, TypeError, "object has no fit"),  # type: ignore[arg-type]
        ({"server": "aimle.example.com"}, ValueError, "^server: .*http"),
        ({"token_url": "ftp://aimle.example.com"}, ValueError, "^token_url: "),
        ({"public_url": "ue-7.example.com:9000"}, ValueError, "^public_url: "),
        ({"ca_file": Path("nothing.pem")}, ValueError, "^ca_file: nothing.pem"),
    ],
)
def test_a_client_that_cannot_work_is_not_made(
    wrong: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    """The constructor names the argument that is wrong."""
    right: dict[str, Any] = {
        "server": "http://server",
        "services": ["val-vision"],
        "datasets": {"digits": Adder()},
    }
    AimleClient("ue-7", **right)
    with pytest.raises(kind, match=reason):
        AimleClient("ue-7", **right | wrong)


async def test_it_joins_what_it_can_serve(server: MiniServer) -> None:
    """Yes to a client set for its service and its data sets, no to others, and never while paused."""
    requests = {
        True: [participation(), participation(dataSetReq={}), participation("DEPART")],
        False: [
            participation(dataSetReq={"avail": {"ids": ["digits", "letters"]}}),
            participation(serviceReq={"valServId": "val-other"}),
        ],
    }
    async with server.client(Adder()) as client:
        for expected, bodies in requests.items():
            for body in bodies:
                answer = await server.call(client, "POST", "/aimlec-cp/v1/participation", body)
                assert answer[:2] == (200, {"clientStatus": expected}), body
        assert isinstance(client.policy, DefaultPolicy)
        client.policy.paused = True
        _, answer, _ = await server.call(client, "POST", "/aimlec-cp/v1/participation", participation())
        assert answer == {"clientStatus": False}


async def test_an_application_decides_on_participation(server: MiniServer) -> None:
    """Its policy sees the request and its answer is the client's; the client remembers its sets."""

    class Stubborn:
        async def join(self, request: dict[str, Any]) -> bool:
            return bool(request["mlModelId"] == "m")

        async def depart(self, request: dict[str, Any]) -> bool:
            return False

    async with server.client(Adder(), policy=Stubborn()) as client:
        for body, expected in (
            (participation(mlModelId="x", clientSetId="set-2"), False),
            (participation(), True),
            (participation("DEPART"), False),
        ):
            _, answer, _ = await server.call(client, "POST", "/aimlec-cp/v1/participation", body)
            assert answer == {"clientStatus": expected}
        assert client.status.client_sets == {"set-1"}


async def test_operations_start_and_stop_and_both_may_be_repeated(server: MiniServer) -> None:
    """The answer echoes operation and mode; the application hears of each change once."""
    heard: list[tuple[str, str]] = []

    def listener(mode: str, changed: Operation) -> None:
        heard.append((mode, changed.id))
        raise RuntimeError("the application's mistake")

    async with server.client(Adder()) as client:
        client.on_operation(listener)
        for mode, running in (("START", ("op-1",)), ("START", ("op-1",)), ("STOP", ()), ("STOP", ())):
            body = operation(mode, valServiceId="val-vision")
            status, answer, _ = await server.call(client, "POST", "/aimlec-serv-ops/v1/perform", body)
            assert status == 200
            assert answer == {"servOpId": "op-1", "servOpModeStatus": mode, "valServiceId": "val-vision"}
            assert client.status.operations == running
    assert heard == [("START", "op-1"), ("START", "op-1"), ("STOP", "op-1")]


async def test_only_who_started_an_operation_stops_it(server: MiniServer) -> None:
    """The same operation identifier under another token is another operation."""
    async with server.client(Adder()) as client:
        await server.call(client, "POST", "/aimlec-serv-ops/v1/perform", operation("START"))
        stop = operation("STOP")
        status, _, _ = await server.call(client, "POST", "/aimlec-serv-ops/v1/perform", stop, subject="other")
        assert status == 200
        assert client.status.operations == ("op-1",)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/aimlec-cp/v1/participation", participation("MAYBE"), "/clientSetPart"),
        ("/aimlec-cp/v1/participation", participation(schedAimlOperations=[]), "/schedAimlOperations"),
        ("/aimlec-serv-ops/v1/perform", operation("PAUSE"), "/servOpMode"),
        (
            "/aimlec-serv-ops/v1/perform",
            operation("START", servOpInfo={"mlMdlUri": 5}),
            "/servOpInfo/mlMdlUri",
        ),
    ],
)
async def test_a_wrong_attribute_is_named(
    server: MiniServer, path: str, body: dict[str, Any], param: str
) -> None:
    """400 with a ProblemDetails whose invalidParams point at the attribute."""
    async with server.client(Adder()) as client:
        status, answer, headers = await server.call(client, "POST", path, body)
    assert (status, headers["Content-Type"]) == (400, "application/problem+json")
    assert [invalid["param"] for invalid in answer["invalidParams"]] == [param]


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_api_needs_a_token_of_the_server_with_its_scope(server: MiniServer, scope: str) -> None:
    """401 without a token or with one that somebody else signed, 403 without the API's scope."""
    paths = {
        "aimlec-cp": "/aimlec-cp/v1/participation",
        "aimlec-serv-ops": "/aimlec-serv-ops/v1/perform",
        "aimlec-hfl-trng": "/aimlec-hfl-trng/v1/subscriptions",
    }
    forged, _ = server.new_issuer().issue("server-1", SCOPES)
    others, _ = server.issuer.issue("server-1", set(SCOPES) - {scope})
    own, _ = server.issuer.issue("server-1", [scope])
    async with server.client(Adder()) as client:
        for token, status in (("", 401), (forged, 401), (others, 403), (own, 400)):
            answer = await server.call(client, "POST", paths[scope], {}, token=token)
            assert answer[0] == status


async def test_a_client_may_be_open_to_everybody_if_it_says_so(server: MiniServer) -> None:
    """Only with insecure_no_auth does a call without a token get through."""
    async with server.client(Adder(), insecure_no_auth=True) as client:
        answer = await server.call(client, "POST", "/aimlec-cp/v1/participation", participation(), token="")
        assert answer[0] == 200

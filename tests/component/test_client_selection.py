"""AIMLES_AIMLEClientSelection over HTTP, with AIMLE clients that agree, refuse, hang or are not there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from aimle_server.consumers.aimle_clients import AimleClients
from aimle_server.procedures.client_participation import DEPART_SECONDS
from ml_repository.database import Database
from ml_repository.registrations import place
from sbi.outbound import Outbound
from schemas.client_participation import AimlecParticipationReq
from tests.support import Listener, ManualClock
from tests.support_client_apis import LOOPBACK, bearer, client_apis
from tests.support_clients import SERVICE, Json, criteria, reg_info

SELECT = "/aimles-sel/v1/select"
TIMEOUT = 0.3
FIRST_ASKED = "a-silent"
"""The client at which the searches of these tests begin."""

VAL, UE = bearer("val-server"), bearer("ue")

Client = TestClient[Any, Any]


async def agree(request: web.Request) -> web.StreamResponse:
    return web.json_response({"clientStatus": True})


async def refuse(request: web.Request) -> web.StreamResponse:
    return web.json_response({"clientStatus": False})


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.json_response({"clientStatus": True})


class World:
    """A server and the AIMLE clients that a test puts around it, each with an HTTP server of its own."""

    def __init__(self, http: Client, stack: AsyncExitStack) -> None:
        self.http = http
        self.clients: dict[str, Listener] = {}
        self._stack = stack

    async def add(self, name: str, answer: Any, **profile: Any) -> None:
        """Register a client that answers like this; None: nothing listens at its address."""
        client = await self._stack.enter_async_context(Listener(default=answer or 204))
        uri = client.url("").rstrip("/")
        if answer is None:
            await client.__aexit__()
        self.clients[name] = client
        info = reg_info(name, aimleClientUri=uri, **profile)
        response = await self.http.post("/aimles-client-reg/v1/registrations", json=info, headers=UE)
        assert response.status == 201, await response.text()

    async def select(self, **request: Any) -> tuple[int, Json]:
        response = await self.http.post(SELECT, json=request, headers=VAL)
        return response.status, await response.json()

    def told(self, name: str) -> list[str]:
        """What a client was asked, in order: JOIN or DEPART."""
        return [body["clientSetPart"] for body in self.clients[name].bodies]


@pytest.fixture
async def world(database: Database, aiohttp_client: AiohttpClient) -> AsyncIterator[World]:
    outbound = Outbound(LOOPBACK)
    clients = AimleClients(outbound, timeout=30)
    app = await client_apis(
        database, ManualClock(), clients, timeout=TIMEOUT, begin=lambda _: place(FIRST_ASKED)
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(outbound.close)
        yield World(await aiohttp_client(app), stack)


async def sets(database: Database) -> list[Json]:
    return [document async for document in database["client_sets"].find()]


async def test_named_clients(world: World, database: Database) -> None:
    """VAL server selection: the named clients that agree are the set, in the order in which they were named."""
    for name in ("ue-1", "ue-2", "ue-3"):
        await world.add(name, agree)
    await world.add("ue-4", refuse)
    status, body = await world.select(clients=["ue-3", "ue-4", "nobody", "ue-1", "ue-3"], valSvcId=SERVICE)
    assert (status, body) == (200, {"clients": ["ue-3", "ue-1"], "clientSet": "set-1"})
    assert world.told("ue-2") == []
    assert world.told("ue-4") == ["JOIN"]
    [stored] = await sets(database)
    assert (stored["_id"], stored["_owner"], stored["clients"]) == ("set-1", "val-server", ["ue-3", "ue-1"])


async def test_invitation_for_named_clients(world: World) -> None:
    """Without criteria a client is asked for what it offers itself, in a request that 3GPP clients understand."""
    await world.add("ue-1", agree)
    await world.select(clients=["ue-1"])
    [body] = world.clients["ue-1"].bodies
    assert AimlecParticipationReq().load(body) == body
    assert [entry["aimlOperation"] for entry in body["schedAimlOperations"]] == [
        "MODEL_TRAINING",
        "MODEL_INFERENCE",
    ]
    assert (body["requesterId"], body["clientSetId"]) == ("val-server", "set-1")
    assert (body["serviceReq"], body["dataSetReq"], body["mlModelId"]) == ({"valServId": SERVICE}, {}, "")


async def test_invitation_by_criteria(world: World) -> None:
    """With criteria a client is told the operations, their schedule, the dataset and the service asked for."""
    await world.add("ue-1", agree)
    nights = {"timeOfDayStart": "22:00:00Z", "timeOfDayEnd": "06:00:00Z"}
    dataset = {"avail": {"ids": ["flows"]}}
    status, _ = await world.select(selCriteria=criteria({"avail": [nights]}, datasetReq=dataset), reqNum=1)
    assert status == 200
    [body] = world.clients["ue-1"].bodies
    assert AimlecParticipationReq().load(body) == body
    assert world.clients["ue-1"].received[0].path == "/aimlec-cp/v1/participation"
    assert body["schedAimlOperations"] == [{"aimlOperation": "MODEL_TRAINING", "aimlOperSched": nights}]
    assert (body["dataSetReq"], body["serviceReq"]) == (dataset, {"valServId": SERVICE})


async def test_service_of_named_clients(world: World) -> None:
    """A named client that does not offer the VAL service counts as one that refuses, and is not asked."""
    await world.add("ue-1", agree)
    await world.add("ue-2", agree, service="other")
    assert (await world.select(clients=["ue-1", "ue-2"], valSvcId=SERVICE))[1]["clients"] == ["ue-1"]
    assert world.told("ue-2") == []


async def test_refusals_are_replaced(world: World) -> None:
    """Who refuses, errs, or cannot be reached is replaced by another client, as long as there is one."""
    for name, answer in (("a", refuse), ("b", None), ("c", 500), ("d", agree), ("e", agree), ("f", agree)):
        await world.add(name, answer)
    status, body = await world.select(selCriteria=criteria(), reqNum=3, suppFeat="1")
    assert status == 200
    assert sorted(body["clients"]) == ["d", "e", "f"]
    assert body["suppFeat"] == "0"


async def test_no_more_than_required(world: World) -> None:
    """As many clients as required are selected, and nobody else is bothered."""
    for number in range(5):
        await world.add(f"ue-{number}", agree)
    status, body = await world.select(selCriteria=criteria(), reqNum=2)
    assert status == 200
    assert len(body["clients"]) == 2
    asked = [name for name in world.clients if world.told(name)]
    assert sorted(asked) == sorted(body["clients"])


async def test_no_number_is_all(world: World) -> None:
    """Without a required number every client that fits is selected."""
    for number in range(5):
        await world.add(f"ue-{number}", agree)
    _, body = await world.select(selCriteria=criteria())
    assert len(body["clients"]) == 5


async def test_silent_clients_are_replaced_and_let_go(world: World) -> None:
    """A client that says nothing loses its place to another one, and is told to depart."""
    await world.add(FIRST_ASKED, hang)
    await world.add("b-willing", agree)
    status, body = await world.select(selCriteria=criteria(), reqNum=1)
    assert (status, body["clients"]) == (200, ["b-willing"])
    assert world.told(FIRST_ASKED) == ["JOIN", "DEPART"]
    assert world.told("b-willing") == ["JOIN"]


async def test_deadline(world: World) -> None:
    """However many clients hang, the answer comes after the deadline with those that agreed."""
    for number in range(10):
        await world.add(f"silent-{number}", hang)
    await world.add("willing", agree)
    began = time.monotonic()
    status, body = await world.select(clients=[*world.clients], minNum=1)
    assert (status, body["clients"]) == (200, ["willing"])
    assert time.monotonic() - began < TIMEOUT + DEPART_SECONDS + 1


async def test_too_few(world: World, database: Database) -> None:
    """With fewer than the minimum there is no set, and those that had agreed are told to depart."""
    await world.add("a", agree)
    await world.add("b", agree)
    await world.add("c", refuse)
    status, body = await world.select(selCriteria=criteria(), reqNum=3, minNum=3)
    assert (status, body["cause"]) == (403, "NOT_ENOUGH_CLIENTS")
    assert "clientSet" not in body
    assert world.told("a") == world.told("b") == ["JOIN", "DEPART"]
    assert world.told("c") == ["JOIN"]
    assert world.clients["a"].bodies[0]["clientSetId"] == world.clients["a"].bodies[1]["clientSetId"]
    assert await sets(database) == []


async def test_nobody_agrees(world: World, database: Database) -> None:
    """A set of nobody is no set, also where no minimum is given or it is 0."""
    await world.add("a", refuse)
    assert (await world.select(selCriteria=criteria(), reqNum=3, minNum=0))[0] == 403
    assert (await world.select(clients=["a", "unknown"]))[0] == 403
    assert await sets(database) == []


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"selCriteria": criteria(), "reqNum": 2, "minNum": 3}, "/minNum"),
        ({"clients": ["a", "b"], "minNum": 3}, "/minNum"),
        ({"clients": ["a"], "reqNum": 1}, "/reqNum"),
        ({"selCriteria": criteria(), "reqNum": 0}, "/reqNum"),
        ({"selCriteria": criteria(), "reqNum": 1001}, "/reqNum"),
        ({"selCriteria": criteria(), "clients": ["a"]}, "/clients"),
        ({"reqNum": 1}, "/selCriteria"),
    ],
)
async def test_contradictions(world: World, request_: Json, param: str) -> None:
    """Numbers and ways of selection that contradict each other are refused with the attribute's name."""
    status, body = await world.select(**request_)
    assert status == 400
    assert param in [entry["param"] for entry in body["invalidParams"]]

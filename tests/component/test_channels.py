"""Channels at a whole server: notifications and calls for those that nobody can call (TS 29.122 5.2.5.4)."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from aimle_client.errors import NotFound, RequestRefused
from aimle_client.testing import RunningServer
from aimle_client.ue import AimleClient
from aimle_client.val import Objective
from aimle_server.channels import channels as holding
from aimle_server.channels import socket as sockets
from aimle_server.procedures.channels import UNUSED
from ml_repository.database import Database
from ml_repository.outbox import Message, Outbox
from tests.support import ManualClock, eventually
from tests.support_models import safetensors
from tests.support_val import PARAMETERS, SERVICE, Approaching, criteria, serving, ues, val_server

CHANNELS = "/aimle-channels/v1/channels"
ASK = {"websockNotifConfig": {"requestWebsocketUri": True}}


@dataclass
class Consumer:
    """A VAL server of another vendor, behind a NAT, that speaks HTTP and WebSocket and knows the clauses."""

    server: RunningServer
    http: aiohttp.ClientSession
    name: str = "val-1"

    async def headers(self, scope: str = "aimle-channels") -> dict[str, str]:
        """Its token."""
        form = {"grant_type": "client_credentials", "scope": scope}
        basic = {"Authorization": self.server.credentials[self.name].basic()}
        async with self.http.post(f"{self.server.url}/oauth2/token", data=form, headers=basic) as answer:
            return {"Authorization": f"Bearer {(await answer.json())['access_token']}"}

    async def call(self, method: str, url: str, body: Any = None) -> tuple[int, Any, str]:
        """Status, JSON and Location."""
        url = url if url.startswith("http") else self.server.url + url
        headers = await self.headers(url.split("/")[3])
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None, answer.headers.get("Location", "")

    async def opened(self) -> tuple[str, str, str]:
        """A new channel: its resource, its address and where its WebSocket is."""
        status, body, location = await self.call("POST", CHANNELS, ASK)
        assert status == 201
        return location, body["notifUri"], body["websockNotifConfig"]["websocketUri"]

    async def connected(self, uri: str) -> aiohttp.ClientWebSocketResponse:
        """The WebSocket."""
        return await self.http.ws_connect(uri, headers=await self.headers())


@pytest.fixture
async def server(mongo_url: str, database: Database) -> AsyncIterator[RunningServer]:
    """The AIMLE server, which may call nobody by plain HTTP: whoever is reached is reached by a channel."""
    async with serving(mongo_url, database, settings={"targets.schemes": ("https",)}) as running:
        yield running


@pytest.fixture
async def consumer(server: RunningServer) -> AsyncIterator[Consumer]:
    """A VAL server without our SDK."""
    async with aiohttp.ClientSession() as http:
        yield Consumer(server, http)


async def frame(websocket: aiohttp.ClientWebSocketResponse) -> tuple[str, bytes]:
    """The next frame: its number, and all that follows the first line."""
    async with asyncio.timeout(10):
        first, _, rest = (await websocket.receive_bytes()).partition(b"\r\n")
    name, _, number = first.decode().partition(": ")
    assert name == "3GPP-WS-Notif-Seq"
    return number, rest


async def acknowledge(websocket: aiohttp.ClientWebSocketResponse, number: str, status: str) -> None:
    """What a consumer answers to a notification."""
    await websocket.send_bytes(f"3GPP-WS-Notif-Seq: {number}\r\n{status}\r\n\r\n".encode())


async def subscribed(consumer: Consumer, address: str) -> str:
    """A subscription to models that can be had."""
    body = {"modelSelCrit": {"mlModelId": "m", "storeDiscReqs": {"duration": 0}}, "notifUri": address}
    status, answer, location = await consumer.call("POST", "/aimles-mlmr/v1/subscriptions", body)
    assert status == 201, answer
    return location


async def store(consumer: Consumer, content: bytes) -> None:
    """Another version of the model."""
    headers = await consumer.headers("aimle-artifacts")
    url = f"{consumer.server.url}/aimle-artifacts/v1/models/m"
    async with consumer.http.put(url, data=content, headers=headers) as answer:
        assert answer.status == 204


@pytest.fixture
async def model(consumer: Consumer) -> None:
    """A model that may be subscribed to."""
    info = {"mlModelId": "m", "valServiceIds": [SERVICE], "phaseInfo": {"phase": "TRAINED"}}
    status, _, _ = await consumer.call("POST", "/mlr-mlmm/v1/storages", {"mlModels": [{"mlModelInfo": info}]})
    assert status == 201


@pytest.mark.usefixtures("model")
async def test_notifications_come_over_the_websocket(consumer: Consumer) -> None:
    """A notification is framed as the clause says, comes again until it is acknowledged, and the next one after it."""
    _, address, uri = await consumer.opened()
    await subscribed(consumer, address)
    await store(consumer, safetensors(10))
    async with await consumer.connected(uri) as websocket:
        number, rest = await frame(websocket)
        head, _, body = rest.partition(b"\r\n\r\n")
        assert sorted(head.decode().split("\r\n")) == [
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
        ]
        told = json.loads(body)
        assert [model["mlModelId"] for model in told["mlModels"]] == ["m"]
        await acknowledge(websocket, number, "500 Internal Server Error")
        again, rest = await frame(websocket)
        assert (again != number, rest.partition(b"\r\n\r\n")[2]) == (True, body)
        await acknowledge(websocket, again, "204 No Content")
        await store(consumer, safetensors(20))
        number, rest = await frame(websocket)
        assert rest.partition(b"\r\n\r\n")[2] == body, "the same model, with other bytes"
        await acknowledge(websocket, number, "204 No Content")


@pytest.mark.usefixtures("model")
async def test_what_was_not_acknowledged_comes_with_the_next_connection(
    consumer: Consumer, database: Database
) -> None:
    """A consumer that loses its connection gets what it missed as soon as it is back, however long it was away."""
    _, address, uri = await consumer.opened()
    subscription = await subscribed(consumer, address)
    await store(consumer, safetensors(10))
    outbox = Outbox(database)
    stream = f"retrieval:{subscription.rpartition('/')[2]}"
    async with await consumer.connected(uri) as websocket:
        await frame(websocket)
    await eventually(lambda: _failed(outbox, stream))
    head = await outbox.head(stream)
    assert head is not None
    await outbox.postponed(head.message, head.created + timedelta(hours=1), head.attempts, None)
    async with await consumer.connected(uri) as websocket:
        number, _ = await frame(websocket)
        await acknowledge(websocket, number, "204 No Content")
        await eventually(lambda: _gone(outbox, stream))


async def _failed(outbox: Outbox, stream: str) -> bool:
    head = await outbox.head(stream)
    return head is not None and head.attempts > 0


async def _gone(outbox: Outbox, stream: str) -> bool:
    return await outbox.head(stream) is None


async def test_one_consumer_does_not_hold_up_another(consumer: Consumer, database: Database) -> None:
    """However much waits for somebody who answers nothing, others are told at once."""
    _, silent, at_silent = await consumer.opened()
    _, prompt, at_prompt = await consumer.opened()
    async with await consumer.connected(at_silent), await consumer.connected(at_prompt) as websocket:
        messages = [Message(f"s:{number}", 1, silent, {"n": number}) for number in range(100)]
        await Outbox(database).enqueue([*messages, Message("s:prompt", 1, prompt, {"n": "prompt"})])
        number, rest = await frame(websocket)
        assert rest.endswith(b'{"n": "prompt"}')
        await acknowledge(websocket, number, "204 No Content")


async def test_whose_channel_it_is(consumer: Consumer, server: RunningServer) -> None:
    """Nobody else can read, open or end a channel, and its address does not say where its WebSocket is."""
    location, address, uri = await consumer.opened()
    other = Consumer(server, consumer.http, "val-2")
    assert (await other.call("GET", location))[0] == 404
    assert (await other.call("DELETE", location))[0] == 404
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await other.connected(uri)
    assert refused.value.status == 404
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await consumer.http.ws_connect(uri)
    assert refused.value.status == 401
    key = address.rpartition("/")[2]
    assert key not in uri
    assert key not in location


async def test_what_opens_no_websocket(consumer: Consumer) -> None:
    """A plain GET gets 426 with Upgrade, a request for something else than a WebSocket 400 with its name."""
    _, _, uri = await consumer.opened()
    async with consumer.http.get(uri.replace("ws", "http", 1), headers=await consumer.headers()) as answer:
        assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
    for wrong in ({}, {"requestWebsocketUri": False}):
        status, body, _ = await consumer.call("POST", CHANNELS, {"websockNotifConfig": wrong})
        assert (status, body["invalidParams"][0]["param"]) == (400, "/websockNotifConfig/requestWebsocketUri")


async def test_a_channel_that_is_ended(consumer: Consumer) -> None:
    """Its WebSocket is closed, and its address leads nowhere."""
    location, address, uri = await consumer.opened()
    async with await consumer.connected(uri) as websocket:
        assert (await consumer.call("DELETE", location))[0] == 204
        assert (await websocket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert (await consumer.call("GET", location))[0] == 404
    async with consumer.http.post(address, json={}) as answer:
        assert answer.status == 404


async def test_a_newer_connection_takes_the_place_of_the_older_one(consumer: Consumer) -> None:
    """A consumer that has lost its connection without either side noticing is served at the new one."""
    _, address, uri = await consumer.opened()
    async with await consumer.connected(uri) as older, await consumer.connected(uri) as newer:
        assert (await older.receive()).type is aiohttp.WSMsgType.CLOSE
        asking = asyncio.create_task(consumer.http.post(address, json={"n": 1}))
        number, _ = await frame(newer)
        await acknowledge(newer, number, "204 No Content")
        assert (await asking).status == 204


async def test_who_is_not_connected(consumer: Consumer) -> None:
    """503 with Retry-After for a channel to which nobody is connected; 405 for what cannot be asked."""
    _, address, _ = await consumer.opened()
    async with consumer.http.post(address, json={}) as answer:
        problem = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert problem["cause"] == "CONSUMER_NOT_CONNECTED"
    async with consumer.http.request("PROPFIND", address) as answer:
        assert answer.status == 405
        assert "PATCH" in answer.headers["Allow"]


@pytest.mark.parametrize("nonsense", ["text", b"no frame"], ids=["text", "no frame"])
async def test_what_is_no_frame_ends_the_connection(consumer: Consumer, nonsense: str | bytes) -> None:
    """Whoever sends something else is disconnected; its channel stays."""
    location, address, uri = await consumer.opened()
    async with await consumer.connected(uri) as websocket:
        asking = asyncio.create_task(consumer.http.post(address, json={}))
        await frame(websocket)
        await (websocket.send_str(nonsense) if isinstance(nonsense, str) else websocket.send_bytes(nonsense))
        assert (await websocket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert (await asking).status == 503
    assert (await consumer.call("GET", location))[0] == 200


async def test_more_than_one_takes(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers nothing is sent so much and no more, until it answers."""
    monkeypatch.setattr(sockets, "MOST_WAITING", 2)
    _, address, uri = await consumer.opened()
    async with await consumer.connected(uri) as websocket:
        waiting = [asyncio.create_task(consumer.http.post(address, json={})) for _ in range(2)]
        numbers = [(await frame(websocket))[0] for _ in waiting]
        async with consumer.http.post(address, json={}) as answer:
            assert answer.status == 503
        for number in numbers:
            await acknowledge(websocket, number, "204 No Content")
        assert [(await one).status for one in waiting] == [204, 204]


async def test_a_connection_that_is_open_for_long(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed after a while, once what is under way is answered, so that its owner shows a token again."""
    monkeypatch.setattr(holding, "CONNECTION_SECONDS", 0.3)
    _, address, uri = await consumer.opened()
    async with await consumer.connected(uri) as websocket:
        asking = asyncio.create_task(consumer.http.post(address, json={}))
        number, _ = await frame(websocket)
        with pytest.raises(TimeoutError):
            await websocket.receive(timeout=0.5)
        await acknowledge(websocket, number, "204 No Content")
        assert (await asking).status == 204
        assert (await websocket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_channels_expire(mongo_url: str, database: Database) -> None:
    """One that nobody connects to is gone after minutes, one that was used after days."""
    clock = ManualClock()
    async with (
        serving(mongo_url, database, clients=(), clock=clock) as server,
        aiohttp.ClientSession() as http,
    ):

        async def made() -> tuple[str, str]:
            async with http.post(server.url + CHANNELS, json=ASK) as answer:
                body = await answer.json()
                return answer.headers["Location"], body["websockNotifConfig"]["websocketUri"]

        async def there(location: str) -> bool:
            async with http.get(location) as answer:
                return answer.status == 200

        (unused, _), (used, uri) = await made(), await made()
        async with http.ws_connect(uri):
            assert await there(used)
        clock.advance(UNUSED.total_seconds())
        assert [await there(unused), await there(used)] == [False, True]
        clock.advance(holding.KEPT.total_seconds())
        assert not await there(used)


async def test_a_training_with_everybody_behind_websockets(server: RunningServer) -> None:
    """Discovery, selection, rounds and notifications work where the server can call nobody."""
    async with (
        val_server(server, listen=None, websocket=True) as val,
        ues(server, "ue-1", "ue-2", websocket=True) as clients,
    ):
        assert all(client.status.uri.startswith(f"{server.url}/aimle-at/v1/") for client in clients)
        await val.store_model("digits", PARAMETERS, services=[SERVICE])
        chosen = await val.select(criteria(), req_num=2, min_num=2)
        training = await val.train(
            model_id="digits",
            client_set=chosen.client_set,
            dataset_ids=["digits"],
            objective=Objective(max_epochs=3),
            member_updates=True,
        )
        async with asyncio.timeout(60):
            events = [event async for event in training.events()]
        assert [change.selected for event in events for change in event.members] == [True, True]
        assert (events[-1].state, events[-1].evaluated_round) == ("COMPLETED", 3)
        assert [record.samples for record in (await training.status()).history] == [20] * 3


async def test_the_same_without_websockets_fails(server: RunningServer) -> None:
    """The server of these tests really calls nobody: a client's own address is refused."""
    with pytest.raises(RequestRefused, match="aimleClientUri"):
        async with ues(server, "ue-1"):
            pass


async def test_a_client_whose_channel_is_gone(server: RunningServer, database: Database) -> None:
    """A client that the server does not let in any more says so to whoever runs it."""
    async with ues(server, "ue-1", websocket=True) as [client], aiohttp.ClientSession() as http:
        running = asyncio.create_task(client.run_forever())
        channel = await database["channels"].find_one({"_id": {"$gt": ""}})
        owner = Consumer(server, http, "ue-1")
        assert (await owner.call("DELETE", f"{CHANNELS}/{channel['_id']}"))[0] == 204
        with pytest.raises(NotFound):
            await asyncio.wait_for(running, 10)


async def test_what_does_not_go_with_a_websocket(server: RunningServer) -> None:
    """Who is behind a WebSocket has no address of its own: arguments that name one are refused."""
    with pytest.raises(ValueError, match="websocket"):
        val_server(server, websocket=True)
    with pytest.raises(ValueError, match="websocket"):
        AimleClient(
            "ue-1",
            server.url,
            services=[SERVICE],
            datasets={"digits": Approaching()},
            public_url="http://ue.example.com",
            websocket=True,
        )

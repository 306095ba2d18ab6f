"""An AIMLE client by hand: it knows the standard's APIs and nothing of the SDK, so that tests can misbehave."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
from aiohttp import web
from safetensors.numpy import save

from sbi.clock import to_wire
from tests.support import eventually
from tests.support_training import SERVICE

Answer = tuple[int, Any, Mapping[str, str]]


@dataclass
class Participant:
    """A registered client that joins everything, takes every subscription and does nothing by itself.

    Attributes:
        server: apiRoot of its AIMLE server.
        name: its AIMLE client id.
        asked_to: JOIN and DEPART, in order.
        answering: it answers JOIN when this is set, as it is until a test clears it.
        operations: bodies of START and STOP, in order.
        subscriptions: by their paths, each HflTrngSub as it stands.
        granted: paths of all subscriptions that there ever were.
        rounds: how often it was asked for a round.
        kind: `valUeId` or `valUserId`, what its name is.
        takes: whether it agrees to go on with other clients' tasks, and `direct`ly; to `most` of them.
        offered: bodies of the requests to do so.
        state_status: what it answers when a state is brought to it.
    """

    server: str
    name: str
    session: aiohttp.ClientSession
    asked_to: list[str] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    operations: list[Any] = field(default_factory=list)
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    granted: list[str] = field(default_factory=list)
    rounds: int = 0
    kind: str = "valUeId"
    takes: bool = False
    direct: bool = False
    most: int = 1000
    offered: list[Any] = field(default_factory=list)
    state_status: int = 204
    uri: str = ""
    registration: str = ""

    @property
    def subscription(self) -> dict[str, Any] | None:
        """The latest HflTrngSub; None: there is none, or none any more."""
        return next(reversed(self.subscriptions.values()), None)

    @property
    def model_url(self) -> str:
        """Where the round's model is."""
        return str(self._subscribed["aimlMdlInfo"]["mlModelLoc"]["uri"])

    @property
    def notif_uri(self) -> str:
        """Where the round's notification goes."""
        return str(self._subscribed["notifUri"])

    @property
    def update_url(self) -> str:
        """Where the round's update goes."""
        return self.notif_uri.replace("/notifications", "/update")

    @property
    def aggregation_uri(self) -> str:
        """`mlMdAggregUri` of the START: all that the standard has."""
        starts = [body for body in self.operations if body["servOpMode"] == "START"]
        return str(starts[-1]["servOpInfo"]["mlMdAggregUri"])

    @property
    def _subscribed(self) -> dict[str, Any]:
        assert self.subscription is not None
        return self.subscription

    async def asked(self, times: int = 1) -> None:
        """Return when it was asked for a round so many times."""
        await eventually(lambda: self.rounds >= times)

    async def call(self, method: str, url: str, **options: Any) -> Answer:
        """Status, JSON body and headers of a call."""
        async with self.session.request(method, url, **options) as response:
            content = await response.read()
            is_json = content and "json" in response.content_type
            return (
                response.status,
                await response.json(content_type=None) if is_json else content,
                response.headers,
            )

    async def put(self, content: bytes, url: str | None = None, **headers: str) -> Answer:
        """Send an update."""
        return await self.call("PUT", url or self.update_url, data=content, headers=headers)

    async def notify(self, url: str | None = None, **changes: Any) -> int:
        """Send an HflTrngNotify; returns the status."""
        body = {"vaSrvId": SERVICE, "hflTrngOut": {}} | changes
        status, _, _ = await self.call("POST", url or self.notif_uri, json=body)
        return status

    async def participate(self, content: bytes) -> None:
        """Do the round as it should be done."""
        status, answer, _ = await self.put(content)
        assert status == 204, answer
        assert await self.notify() == 204

    async def _participation(self, request: web.Request) -> web.Response:
        part = (await request.json())["clientSetPart"]
        self.asked_to.append(part)
        if part == "JOIN":
            await self.answering.wait()
        return web.json_response({"clientStatus": True})

    async def _perform(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.operations.append(body)
        return web.json_response({"servOpId": body["servOpId"], "servOpModeStatus": body["servOpMode"]})

    async def _subscribe(self, request: web.Request) -> web.Response:
        path = f"{request.path}/{len(self.granted) + 1}"
        self.granted.append(path)
        self.subscriptions[path] = await request.json()
        self.rounds += 1
        return web.json_response(self.subscriptions[path], status=201, headers={"Location": path})

    async def _modify(self, request: web.Request) -> web.Response:
        subscription = self.subscriptions.get(request.path)
        if subscription is None:
            return web.Response(status=404)
        subscription.update(json.loads(await request.text()))
        self.rounds += 1
        return web.json_response(subscription)

    async def _withdraw(self, request: web.Request) -> web.Response:
        return web.Response(status=204 if self.subscriptions.pop(request.path, None) else 404)

    async def _offer(self, request: web.Request) -> web.Response:
        self.offered.append(await request.json())
        if not self.takes or len(self.offered) > self.most:
            return web.json_response({"status": 403, "cause": "TASK_REFUSED"}, status=403)
        return web.json_response({"aimle": {"direct": self.direct}})

    async def _offer_direct(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _state(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=self.state_status)

    def application(self) -> web.Application:
        """Its APIs."""
        app = web.Application()
        app.router.add_post("/aimlec-cp/v1/participation", self._participation)
        app.router.add_post("/aimlec-serv-ops/v1/perform", self._perform)
        app.router.add_post("/aimlec-hfl-trng/v1/subscriptions", self._subscribe)
        app.router.add_patch("/aimlec-hfl-trng/v1/subscriptions/{number}", self._modify)
        app.router.add_delete("/aimlec-hfl-trng/v1/subscriptions/{number}", self._withdraw)
        app.router.add_post("/aimlec-task-transfer/v1/request", self._offer)
        app.router.add_post("/aimlec-task-transfer/v1/request-direct", self._offer_direct)
        app.router.add_put("/aimle-task-states/v1/states/{transfer}", self._state)
        return app

    async def ask_for_help(self, training_id: str, **changes: Any) -> Answer:
        """Ask the server who can go on with the task of this training (assist-tt)."""
        body = {
            "requestorId": {"valUeId": self.name},
            "aimlTaskType": "MODEL_TRAINING",
            "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
            "aimle": {"trainingId": training_id},
        } | changes
        return await self.call("POST", f"{self.server}/aimles-task-transfer/v1/assist-tt", json=body)

    async def deposit(self, state: bytes) -> Answer:
        """Leave a state at the server."""
        return await self.put(state, self.notif_uri.replace("/notifications", "/state"))

    async def hand_over(self, transfer_id: str, target: str, iterations: int = 3) -> Answer:
        """Give the task away."""
        body = {"transferId": transfer_id, "targetId": target, "iterations": iterations}
        return await self.call("POST", self.notif_uri.replace("/notifications", "/hand-over"), json=body)

    async def transfer(self, transfer_id: str) -> Any:
        """How a transfer of its own stands."""
        url = f"{self.server}/aimle-task-transfers/v1/transfers/{transfer_id}"
        return (await self.call("GET", url))[1]

    async def register(self, *, until: datetime | None = None, **changes: Any) -> None:
        """Tell the server of itself, or of changes to its profile; `until` is when the registration expires."""
        profile = {
            "aimleClientUri": self.uri,
            "aimlModelTypes": ["NEURAL_NETWORK"],
            "aimlOperations": ["MODEL_TRAINING"],
            "clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"},
            "dataSetAvail": {"dataSetIds": ["digits"]},
        } | changes
        services = [{"valServiceId": SERVICE, "servPermLevel": "STANDARD_RESOURCE_USAGE"}]
        supported = [{"clientProfile": profile, "suppServices": services}]
        body = {"aimleClientId": {self.kind: self.name}, "suppProfiles": supported}
        expires = {"expTime": to_wire(until)} if until else {}
        if self.registration:
            status, answer, _ = await self.call("PUT", self.registration, json={"regData": body, **expires})
        else:
            url = f"{self.server}/aimles-client-reg/v1/registrations"
            status, answer, headers = await self.call("POST", url, json={**body, **expires})
            self.registration = headers.get("Location", "")
        assert status in (200, 201, 204), answer

    async def deregister(self) -> None:
        """Leave the server, and go on answering."""
        assert (await self.call("DELETE", self.registration))[0] == 204
        self.registration = ""

    async def listen(self) -> None:
        """Open the APIs, on any free port."""
        self.answering.set()
        self._runner = web.AppRunner(self.application(), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.uri = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def vanish(self) -> None:
        """Answer nothing any more, as a process that is gone, which nobody told the server."""
        await self._runner.cleanup()


@contextlib.asynccontextmanager
async def participants(server: str, *names: str) -> AsyncIterator[list[Participant]]:
    """Registered clients by hand; they vanish at the end, without deregistering."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        found = []
        for name in names:
            participant = Participant(server, name, session)
            await participant.listen()
            stack.push_async_callback(participant.vanish)
            await participant.register()
            found.append(participant)
        yield found


async def all_asked(found: list[Participant], times: int = 1) -> None:
    """Return when each was asked for a round so many times."""
    await asyncio.gather(*(participant.asked(times) for participant in found))


def update(w: Any, metadata: Mapping[str, str] | None = None, **more: Any) -> bytes:
    """A model file with the tensor `w`, and more tensors."""
    return save({"w": w, **more}, dict(metadata or {}))

"""An AIMLE client that does as it is told: the aimlec-* APIs that an AIMLE server calls (TS 24.560).

It registers, joins client sets, starts and stops operations and takes part in the rounds of horizontal federated
learning. It does not learn: its update is the model that it was given.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from support.background import Background
from support.consumer import Consumer, fresh
from support.documents import Documents, NotAsDocumented
from support.listener import PATIENCE, Listener

Json = Any

REGISTRATION = "Aimles_AIMLEClientRegistration"
SERVICE = "conformance-service"
"""The VAL service of everything here."""

_APIS = {
    "aimlec-cp": "Aimlec_AIMLEClientParticipation",
    "aimlec-serv-ops": "Aimlec_AIMLEClientServiceOperations",
    "aimlec-hfl-trng": "Aimlec_HFLTraining",
    "aimlec-task-transfer": "Aimlec_AimlTaskTransfer",
}
_POLL = 0.05


class AimleClient:
    """One client, with an address of its own.

    Attributes:
        name: its `valUeId`.
        dataset: the data set that it says it has.
        joins, trains: whether it agrees to take part, and does its part of a round then.
        takes: whether it agrees to go on with the tasks of others.
        participations, operations, subscriptions, tasks: bodies of what it was asked, in order; a subscription that
            was changed is there again.
        held: its HFL training subscriptions, by their paths.
        rounds: bodies that it has trained for.
        complaints: what is wrong with the requests and answers of the server.
    """

    def __init__(self, listener: Listener, background: Background, documents: Documents) -> None:
        self.name = fresh("ue")
        self.dataset = fresh("dataset")
        self.joins = self.trains = self.takes = True
        self.participations: list[Json] = []
        self.operations: list[Json] = []
        self.subscriptions: list[Json] = []
        self.tasks: list[Json] = []
        self.held: dict[str, Json] = {}
        self.rounds: list[Json] = []
        self.complaints: list[str] = []
        self._documents = documents
        self._background = background
        self._prefix = f"/{self.name}"
        self._listener = listener
        self.uri = listener.mount(self._prefix, self._answer)
        self._training: set[asyncio.Task[None]] = set()

    def profile(self, service: str = SERVICE, **changes: Json) -> Json:
        """Its AimleClientRegInfo, for a VAL service; `changes` are attributes of its AimleClientProfile."""
        profile = {
            "aimleClientUri": self.uri,
            "aimlModelTypes": ["NEURAL_NETWORK"],
            "aimlOperations": ["MODEL_TRAINING"],
            "clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"},
            "dataSetAvail": {"dataSetIds": [self.dataset], "size": 1000},
        } | changes
        services = [{"valServiceId": service, "servPermLevel": "STANDARD_RESOURCE_USAGE"}]
        return {
            "aimleClientId": {"valUeId": self.name},
            "suppProfiles": [{"clientProfile": profile, "suppServices": services}],
        }

    def register(self, consumer: Consumer, **changes: Json) -> str:
        """Register it, with `changes` as for `profile`; returns the registration's identifier."""
        answer = consumer.call(REGISTRATION, "RegAimleClient", self.profile(**changes))
        assert answer.status == 201, answer
        return answer.location

    def wait(self, done: Callable[["AimleClient"], bool], what: str) -> None:
        """Return when something is so.

        Raises:
            NotAsDocumented: it did not become so in time, or the server did what the documents do not have.
        """
        until = time.monotonic() + PATIENCE
        while not done(self):
            self.check()
            if time.monotonic() > until:
                raise NotAsDocumented(f"the AIMLE client waited in vain: {what}")
            time.sleep(_POLL)

    def check(self) -> None:
        """Raise NotAsDocumented if the server did what the documents do not have."""
        if self.complaints:
            raise NotAsDocumented(f"the server at the AIMLE client: {self.complaints[0]}")

    def close(self) -> None:
        """Answer nothing any more."""
        self._listener.unmount(self._prefix)
        self._background.run(self._end())

    async def _end(self) -> None:
        for task in self._training:
            task.cancel()
        await asyncio.gather(*self._training, return_exceptions=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        base, _, path = request.path.removeprefix(f"{self._prefix}/").partition("/v1/")
        try:
            body = json.loads(text) if text else None
            self._check(request, base, path, body)
        except (ValueError, NotAsDocumented) as error:
            self.complaints.append(f"{request.method} {request.path}: {error}: {text[:500]}")
            return web.Response(status=400)
        match request.method, base, path.partition("/")[0]:
            case "POST", "aimlec-cp", "participation":
                self.participations.append(body)
                return web.json_response({"clientStatus": self.joins})
            case "POST", "aimlec-serv-ops", "perform":
                self.operations.append(body)
                done = {"servOpId": body["servOpId"], "servOpModeStatus": body["servOpMode"]}
                return web.json_response(done)
            case "POST", "aimlec-task-transfer", "request":
                self.tasks.append(body)
                return web.Response(status=204 if self.takes else 403)
            case method, "aimlec-hfl-trng", "subscriptions":
                return self._subscription(method, request.path, body)
        return web.Response(status=404)

    def _check(self, request: web.Request, base: str, path: str, body: Json) -> None:
        asked = path.split("/")
        for operation in self._documents.operations.get(_APIS.get(base, ""), {}).values():
            parts = operation.path.strip("/").split("/")
            if (operation.method, parts[0], len(parts)) == (request.method, asked[0], len(asked)):
                operation.check_request(request.content_type, body)

    def _subscription(self, method: str, path: str, body: Json) -> web.Response:
        if method == "POST":
            made = f"{path}/{len(self.subscriptions) + 1}"
            return self._asked(made, body, 201, {"Location": f"{self._listener.root}{made}"})
        if path not in self.held:
            return web.Response(status=404)
        if method == "DELETE":
            del self.held[path]
            return web.Response(status=204)
        if method == "GET":
            return web.json_response(self.held[path])
        return self._asked(path, body if method == "PUT" else {**self.held[path], **body}, 200, {})

    def _asked(self, path: str, body: Json, status: int, headers: dict[str, str]) -> web.Response:
        self.held[path] = body
        self.subscriptions.append(body)
        if self.trains:
            task = asyncio.get_running_loop().create_task(self._train(body))
            self._training.add(task)
            task.add_done_callback(self._training.discard)
        return web.json_response(body, status=status, headers=headers)

    async def _train(self, subscription: Json) -> None:
        """A round: the model comes, goes back as the update where one is wanted, and the report follows."""
        async with aiohttp.ClientSession() as session:
            uri = subscription["aimlMdlInfo"].get("mlModelLoc", {}).get("uri")
            model = await self._exchange(session, "GET", uri) if uri else None
            aggregator = self._aggregator()
            if model is not None and aggregator and subscription["noDataSamp"] > 0:
                await self._exchange(session, "PUT", aggregator, data=model)
            report = {"vaSrvId": subscription["vaSrvId"], "hflTrngOut": {"modelAccuracy": 70}}
            await self._exchange(session, "POST", subscription["notifUri"], json=report)
        self.rounds.append(subscription)

    def _aggregator(self) -> str | None:
        """Where updates go: `mlMdAggregUri` of the latest START."""
        starts = [body for body in self.operations if body["servOpMode"] == "START"]
        return starts[-1].get("servOpInfo", {}).get("mlMdAggregUri") if starts else None

    async def _exchange(self, session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> bytes:
        async with session.request(method, url, **options) as answer:
            content = await answer.read()
            if answer.status not in (200, 204):
                self.complaints.append(f"{method} {url}: {answer.status} {content[:500]!r}")
            return content

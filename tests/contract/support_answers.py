"""Who takes part in the story that `test_answers` tells: a judge, a caller and an AIMLE client of another vendor."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from jsonschema import ValidationError
from safetensors.numpy import save
from yarl import URL

from aimle_server.apis import ALL_APIS
from sbi.issuer import TokenIssuer
from tests.contract.support_documents import OFFICIAL, ROOT, Documented, load, name_of
from tests.support_models import safetensors

Json = Any


STATE = save({"w": np.arange(100, dtype=np.float32)}, {"aimle.iterations": "7"})
"""The intermediate state of a task, as another vendor's client may have it."""


@dataclass
class Judge:
    """Holds what is answered and sent against the documents: our own and, where they are at hand, 3GPP's.

    Attributes:
        own, official: the documents' operations by name (`name_of`).
        seen: names of operations with a successful answer.
        notified: names of those whose notification was seen.
    """

    own: dict[str, Documented] = field(default_factory=dict)
    official: dict[str, Documented] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    notified: set[str] = field(default_factory=set)

    @classmethod
    def of_all_documents(cls) -> "Judge":
        """With what is in `specs/`, answers with nothing undocumented in them, and the official documents."""
        judge = cls()
        for api in ALL_APIS:
            own = load(ROOT / "specs" / f"{api.document}.yaml", closed=True)
            judge.own |= {name_of(api, name): known for name, known in own.items()}
            if not api.extension and OFFICIAL.is_dir():
                official = load(OFFICIAL / f"{api.document}.json")
                judge.official |= {name_of(api, name): known for name, known in official.items()}
        return judge

    def operation(self, method: str, path: str) -> str:
        """The name of a request's operation."""
        [name] = [
            name
            for name, documented in self.own.items()
            if documented.method == method and documented.pattern.fullmatch(path)
        ]
        return name

    def answer(self, name: str, status: int, body: Json) -> None:
        """An answer to this operation."""
        self.seen.add(name)
        self.own[name].check_answer(status, body)
        if name in self.official:
            self.official[name].check_answer(status, body)

    def request(self, name: str, body: Json) -> None:
        """A request of this operation, by us."""
        self.own[name].check_request(body)
        if name in self.official:
            self.official[name].check_request(body)

    def notification(self, name: str, body: Json) -> None:
        """A notification that this operation promised; what is ours in it is under `aimle`."""
        self.notified.add(name)
        body = {key: value for key, value in body.items() if key != "aimle"}
        for documents in (self.own, self.official):
            if name in documents:
                documents[name].check_notification(body)


@dataclass
class Caller:
    """Calls operations and has the answers judged."""

    judge: Judge
    session: aiohttp.ClientSession
    issuer: TokenIssuer
    subject: str = "val-1"

    async def call(
        self, method: str, url: str, body: Json = None, *, data: bytes | None = None, **options: Any
    ) -> tuple[Json, Mapping[str, str]]:
        """A request that succeeds: its JSON (bytes where it is none, None where there is nothing), and its headers."""
        name = self.judge.operation(method, URL(url).path)
        headers = {**self.token(), **options.pop("headers", {})}
        if body is not None:
            self.judge.request(name, body)
            [kind] = self.judge.own[name].operation["requestBody"]["content"]
            headers, data = {**headers, "Content-Type": kind}, json.dumps(body).encode()
        async with self.session.request(method, url, data=data, headers=headers, **options) as response:
            raw = await response.read()
            assert response.status < 300, (name, response.status, raw)
            known = response.content_type == "application/json"
            answer = json.loads(raw) if known else raw or None
            self.judge.answer(name, response.status, answer)
        if response.status == 201:
            await self._check_location(name, response.headers["Location"], answer)
        return answer, response.headers

    async def _check_location(self, name: str, location: str, created: Json) -> None:
        """A Location is absolute and below the API; where the resource can be read, it is what was answered."""
        path = URL(location).path
        assert location.startswith("http://127.0.0.1:")
        assert path.startswith(self.judge.own[name].path + "/")
        gets = [known for known in self.judge.own.values() if known.method == "GET"]
        if any(known.pattern.fullmatch(path) for known in gets):
            assert (await self.call("GET", location))[0] == created

    def token(self) -> dict[str, str]:
        """The Authorization header, for every API."""
        scopes = [api.scope for api in ALL_APIS]
        return {"Authorization": f"Bearer {self.issuer.issue(self.subject, scopes)[0]}"}


@dataclass
class PlainClient:
    """An AIMLE client as the standard describes it, which does its rounds with the addresses that it is given."""

    caller: Caller
    asked: list[tuple[str, Json]] = field(default_factory=list)
    problems: list[BaseException] = field(default_factory=list)
    url: str = ""
    gave_away: bool = False
    _subscription: Json = None
    _rounds: list[asyncio.Task[None]] = field(default_factory=list)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PlainClient"]:
        """Answer what the server asks."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
            await asyncio.gather(*self._rounds)
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        if request.path == "/model":
            return web.Response(body=safetensors(10))
        if request.path.startswith("/notify/"):
            self._judge_notification(request.path.rpartition("/")[2], body)
            return web.Response(status=204)
        name = self.caller.judge.operation(request.method, request.path)
        self.asked.append((name, body))
        if body is not None:
            self._judge(lambda: self.caller.judge.request(name, body))
        return self._as_asked(name, body)

    def _as_asked(self, name: str, body: Json) -> web.Response:
        if name == "ClientParticipation":
            return web.json_response({"clientStatus": True})
        if name == "AimleServOperReq":
            return web.json_response({"servOpId": body["servOpId"], "servOpModeStatus": body["servOpMode"]})
        if name in ("AimlTaskTransf", "DeleteHFLTraningSubs"):
            return web.Response(status=204)
        self._subscription = (self._subscription or {"subId": "s-1"}) | body
        self._rounds.append(asyncio.create_task(self._round(self._subscription)))
        if name == "HFLTraningSubs":
            location = {"Location": f"{self.url}/aimlec-hfl-trng/v1/subscriptions/s-1"}
            return web.json_response(self._subscription, status=201, headers=location)
        return web.json_response(self._subscription)

    def news(self, name: str) -> list[Json]:
        """The notifications that came for an operation."""
        return [body for asked, body in self.asked if asked == f"notification of {name}"]

    def _judge_notification(self, name: str, body: Json) -> None:
        self.asked.append((f"notification of {name}", body))
        self._judge(lambda: self.caller.judge.notification(name, body))

    def _judge(self, check: Any) -> None:
        """What does not hold is for the test to say, and not for the server to be answered."""
        try:
            check()
        except (ValidationError, AssertionError) as error:
            self.problems.append(error)

    async def _give_away(self, own: str, number: str, link: str) -> None:
        """Leave a state, ask by both ways who can go on, and hand the task over."""
        assert 'rel="intermediate-state"' in link
        root = own.partition("/aimle-hfl/")[0]
        folder = f"{own}/rounds/{number}"
        await in_two_parts(self.caller, f"{folder}/state", STATE)
        training = next(body["servOpId"] for name, body in self.asked if name == "AimleServOperReq")
        request = {
            "requestorId": {"valUeId": "plain"},
            "aimlTaskType": "MODEL_TRAINING",
            "aimlInfoType": "INTERMEDIATE_AIML_OP_RESULTS",
            "aimle": {"trainingId": training, "targetId": "plain-2"},
        }
        ever = {"startTime": "2020-01-01T00:00:00Z", "stopTime": "2100-01-01T00:00:00Z"}
        url = f"{root}/aimles-task-transfer/v1"
        controlled = request | {"aimlTaskTransferTime": ever}
        await self.caller.call("POST", f"{url}/request-ctld", controlled)
        answer, _ = await self.caller.call("POST", f"{url}/assist-tt", request)
        assert answer["targetAimlIds"] == [{"valUeId": "plain-2"}]
        assert answer["transferMode"] == "SERVER_CONTROLLED"
        given = {"transferId": answer["aimle"]["transferId"], "targetId": "plain-2", "iterations": 7}
        await self.caller.call("POST", f"{folder}/hand-over", given)

    async def _round(self, subscription: Json) -> None:
        """Fetch the model, send it back as an update in two parts, tell of it; once by each way there is."""
        try:
            own, _, rest = subscription["notifUri"].partition("/rounds/")
            number = rest.partition("/")[0]
            folder = own if number == "1" else f"{own}/rounds/{number}"
            model, headers = await self.caller.call("GET", f"{folder}/model")
            _, described = await self.caller.call("HEAD", f"{folder}/model")
            assert described["Content-Length"] == headers["Content-Length"] == str(len(model))
            if not self.gave_away:
                self.gave_away = True
                return await self._give_away(own, number, headers["Link"])
            if 'rel="resume"' in headers["Link"]:
                assert (await self.caller.call("GET", f"{own}/rounds/{number}/state"))[0] == STATE
            await in_two_parts(self.caller, f"{folder}/update", model)
            report = {"vaSrvId": subscription["vaSrvId"], "hflTrngOut": {"modelAccuracy": 50}}
            await self.caller.call("POST", subscription["notifUri"], report)
        except BaseException as error:
            self.problems.append(error)
            raise


async def in_two_parts(caller: Caller, url: str, file: bytes) -> None:
    """Upload a file as after an interruption."""
    half = len(file) // 2
    part = {"Content-Range": f"bytes 0-{half - 1}/{len(file)}"}
    await caller.call("PUT", url, data=file[:half], headers=part)
    _, offset = await caller.call("HEAD", url)
    assert offset["Upload-Offset"] == str(half)
    part = {"Content-Range": f"bytes {half}-{len(file) - 1}/{len(file)}"}
    await caller.call("PUT", url, data=file[half:], headers=part)

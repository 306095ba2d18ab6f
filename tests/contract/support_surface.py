"""A whole system to throw requests at: a server with tokens, an AIMLE client, and an example of each request."""

import io
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_client.testing import RunningServer, running_server
from aimle_client.ue import AimleClient
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.contract import (
    support_clients_bodies,
    support_members_bodies,
    support_models_bodies,
    support_split_bodies,
)
from tests.contract.support_endpoints import BY_NAME, ENDPOINTS, MAKERS, Endpoint
from tests.contract.support_queries import OWNER, QUERIES, SPLIT_NODE, UE, UPGRADE
from tests.support import Listener, ManualClock
from tests.support_models import safetensors
from tests.support_split_pipelines import node
from tests.support_task_transfer import Walk
from tests.support_val import ues

Json = Any

MAX_JSON = 64 * 1024
MAX_MODEL = 128 * 1024

_INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|aimle_server|aimle_client\.|ml_repository|\bsbi\b|schemas\."
    r"|marshmallow|mongo|motor|bson|E11000|<class|codec|object at 0x|set_int_max_str_digits",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers, text of the body."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Json:
        """The body's JSON."""
        return json.loads(self.text)

    @property
    def invalid(self) -> list[str]:
        """What the ProblemDetails names in invalidParams."""
        return [entry["param"] for entry in self.body.get("invalidParams", [])]


def assert_problem(answer: Answer, status: int, *, has_body: bool = True) -> None:
    """An error answer as all have to be: ProblemDetails of this status, and nothing internal."""
    assert answer.status == status, answer
    if not has_body:
        return
    assert answer.headers["Content-Type"].partition(";")[0] == "application/problem+json", answer
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert not _INTERNALS.search(answer.text), answer.text


@dataclass
class World:
    """The running system.

    Attributes:
        ids: a resource of OWNER for each variable of a path.
        key: signs the tokens that everybody here accepts.
    """

    server: RunningServer
    client: AimleClient
    session: aiohttp.ClientSession
    listener: Listener
    key: Any
    ids: dict[str, str] = field(default_factory=dict)
    _registered: dict[str, Json] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def token(
        self,
        scopes: list[str],
        subject: str = OWNER,
        *,
        audience: str = "aimle",
        age: float = 0,
        key: Any = None,
    ) -> str:
        """A token that is valid for an hour from `age` seconds ago."""
        clock = ManualClock(Clock().now() - timedelta(seconds=age))
        return TokenIssuer(key or self.key, "aimle", audience, 3600, clock).issue(subject, scopes)[0]

    def url(self, endpoint: Endpoint, ids: Mapping[str, str] | None = None) -> str:
        """Its URL with these variables in the path, or with those of resources that there are."""
        root = self.client.status.uri if endpoint.api in CLIENT_APIS else self.server.url
        return root + endpoint.filled({**self.ids, **(ids or {})})

    async def send(self, method: str, url: str, **options: Any) -> Answer:
        """A plain request."""
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            text = "" if response.status == 101 else await response.text(errors="replace")
            return Answer(response.status, response.headers, text)

    async def call(
        self,
        endpoint: Endpoint,
        body: Json = None,
        *,
        ids: Mapping[str, str] | None = None,
        subject: str = OWNER,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """The operation's request with the caller's token and the right content type; `data` instead of a body."""
        sent = {"Authorization": f"Bearer {self.token([endpoint.api.scope], subject)}"}
        if endpoint.operation.body is not None:
            sent["Content-Type"] = endpoint.operation.content_type
            data = json.dumps(body).encode() if data is None else data
        url = self.url(endpoint, ids)
        return await self.send(
            endpoint.operation.method,
            url,
            params=query,
            data=None if data is None else io.BytesIO(data),
            headers={**sent, **(headers or {})},
        )

    async def example(
        self, endpoint: Endpoint, ids: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """A request that is right in every way."""
        options.setdefault("query", QUERIES.get(endpoint.name))
        if 101 in endpoint.operation.answers:
            options.setdefault("headers", UPGRADE)
        if endpoint.operation.streams and endpoint.operation.method == "PUT":
            options.setdefault("data", safetensors(10))
        return await self.call(endpoint, self.body(endpoint.name, ids), ids=ids, **options)

    def body(self, name: str, ids: Mapping[str, str] | None = None) -> Json:
        """An example of an operation's body, with identifiers that are new each time; None: it has none."""
        number = next(self._numbers)
        model, notify = self.ids.get("mlModelId", "none"), self.listener.url(f"/notify/{number}")
        name = name.rpartition(".")[2]
        body = _bodies(number, model, notify).get(name)
        ids = {**self.ids, **(ids or {})}
        if name == "UpdateAimleClientReg":
            body["regData"]["aimleClientId"] = self._registered.get(
                ids["registrationId"], {"valUeId": "nobody"}
            )
        if name == "SplitOpPipeModify":
            body["splitOpPipelineId"] = ids["requestId"]
            body["splitOpPipelineInfo"]["splitOpProfile"]["splitOpPipelineId"] = ids["requestId"]
        if name in ("AimlTtAssist", "CtldAimlTt"):
            body["requestorId"] = self._registered[self.ids["registrationId"]]
        if name in ("UpdateFLMember", "ModifyPartiallyFLMember"):
            body["flMbrId"] = self._registered.get(ids["configurationId"], "nobody")
        return body

    async def fresh(self, variable: str) -> str:
        """A new resource of OWNER for a variable of a path: its id."""
        if variable in MAKERS:
            answer = await self.example(BY_NAME[MAKERS[variable]])
            assert answer.status == 201, answer
            made: str = answer.headers["Location"].rpartition("/")[2]
            of_client = answer.body.get("regData", {}).get("aimleClientId")
            self._registered[made] = answer.body.get("flMbrId", of_client)
            return made
        match variable:
            case "mlModelId":
                return await self._fresh_model()
            case "transferId":
                return str((await self.example(BY_NAME["AimlTtAssist"])).body["aimle"]["transferId"])
            case "trainingId":
                return str((await self.example(BY_NAME["RequestTrain"])).body["trainingId"])
        return {"key": "no-such-key", "round": "1"}[variable]

    async def _fresh_model(self) -> str:
        body = self.body("CreateMLModelsStorage")
        model: str = body["mlModels"][0]["mlModelInfo"]["mlModelId"]
        better = {
            "phase": "TRAINED",
            "observedPerf": {"appSpecPerfData": '{"accuracy": 0.9}'},
            "trainingInfo": {"baseModelId": model},
        }
        elsewhere = {"uri": self.listener.url("/model")}
        newer = {"mlModelUri": elsewhere, "mlModelInfo": {"mlModelId": f"{model}.newer", "phaseInfo": better}}
        ids = {"mlModelId": model}
        for name, content in (
            ("CreateMLModelsStorage", body),
            ("CreateMLModelsStorage", {"mlModels": [newer]}),
            ("PutTrainingProfile", {"localEpochs": 1}),
        ):
            assert (await self.call(BY_NAME[name], content, ids=ids)).status in (200, 201)
        stored = await self.call(BY_NAME["PutModelArtifact"], ids=ids, data=safetensors(10))
        assert stored.status == 204, stored
        return model


@asynccontextmanager
async def world(
    mongo_url: str, name: str, folder: Path, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[World]:
    """A system whose server keeps its documents in the database `name`; `changes` are settings of that server."""
    settings = {
        "database.url": mongo_url,
        "database.name": name,
        "auth.key_file": str(folder / "key.pem"),
        "server.max_json_bytes": MAX_JSON,
        "server.max_model_bytes": MAX_MODEL,
        "hfl.participation_timeout": 0.5,
        "hfl.call_timeout": 1.0,
        "hfl.join_timeout": 0.5,
        "update.wait": 0.0,
        **(changes or {}),
    }
    async with (
        running_server(settings, clients=[OWNER, UE]) as server,
        ues(server, UE, trainer=Walk()) as [client],
        aiohttp.ClientSession() as session,
        Listener() as listener,
    ):
        made = World(server, client, session, listener, load_or_create_key(folder / "key.pem"))
        every = node(SPLIT_NODE, "*")
        registered = await made.call(BY_NAME["CreateAimleSplitOpNodeRegSubscription"], every)
        assert registered.status == 201, registered
        for variable in (
            "mlModelId",
            *sorted({name for endpoint in ENDPOINTS for name in endpoint.variables}),
        ):
            made.ids[variable] = made.ids.get(variable) or await made.fresh(variable)
        yield made


def _bodies(number: int, model: str, notify: str) -> dict[str, Json]:
    """An example of each operation's body; `number` makes identifiers new, `model` is a model that there is."""
    return (
        support_clients_bodies.bodies(number, model, notify)
        | support_models_bodies.bodies(number, model, notify)
        | support_members_bodies.bodies(number, model, notify)
        | support_split_bodies.bodies(model, notify)
    )

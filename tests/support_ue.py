"""The other side of an AIMLE client: a small server with real tokens, models, uploads and notifications."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from aimle_client.trainers.base import EvalResult, FitResult, Parameters
from aimle_client.ue import AimleClient, ClientCredentials
from sbi import tensors
from sbi.api import JSON
from sbi.clock import Clock, to_wire
from sbi.issuer import TokenIssuer

CREDENTIALS = ClientCredentials("ue-7", "a-secret")
SCOPES = ("aimlec-cp", "aimlec-serv-ops", "aimlec-hfl-trng")
PROFILE = {"localEpochs": 2, "learningRate": 0.5}


class Adder:
    """A trainer whose training adds one to every value; a test can hold it, and make it fail.

    Attributes:
        gate: `fit` waits for it.
        fitting: `fit` has begun.
        configs: what each `fit` was told.
        error: raised by `fit`.
        running, most: how many `fit` run now, and how many ever did at once.
    """

    def __init__(self) -> None:
        self.gate, self.fitting = threading.Event(), threading.Event()
        self.gate.set()
        self.configs: list[Mapping[str, Any]] = []
        self.error: Exception | None = None
        self.running = self.most = 0
        self.metrics = {"accuracy": 0.987, "loss": 0.25, "mse": float("nan")}

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Wait for the gate, then add one."""
        self.configs.append(config)
        self.running += 1
        self.most = max(self.most, self.running)
        self.fitting.set()
        assert self.gate.wait(20)
        self.running -= 1
        if self.error is not None:
            raise self.error
        return FitResult({name: values + 1 for name, values in parameters.items()}, 7, {"loss": 0.125})

    def evaluate(self, parameters: Parameters) -> EvalResult:
        """The same numbers for every model."""
        return EvalResult(3, dict(self.metrics))


@dataclass
class MiniServer:
    """What an AIMLE client needs of an AIMLE server, on a real socket.

    Attributes:
        folder: for model files.
        clock: of tokens and registrations.
        lifetime: of a registration, in seconds; None: without an end.
        link: models name the address for updates.
        calls: registration requests as (method, path, body).
        registrations: registered clients by registration id.
        fetched: numbers of the rounds whose model was downloaded.
        updates: uploaded files by the path they were put to.
        notifications: by the path they were posted to.
        refuse: status to answer registration requests with, by method.
    """

    folder: Path
    clock: Clock
    lifetime: float | None = 300
    link: bool = True
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    registrations: dict[str, Any] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    updates: dict[str, Path] = field(default_factory=dict)
    notifications: dict[str, list[Any]] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)
    url: str = ""

    async def __aenter__(self) -> "MiniServer":
        self.issuer = self.new_issuer()
        app = web.Application()
        app.router.add_post("/oauth2/token", self._token)
        app.router.add_get("/oauth2/jwks", self._jwks)
        app.router.add_route("*", "/aimles-client-reg/v1/registrations{rest:.*}", self._register)
        app.router.add_get("/own/rounds/{round}/model", self._model)
        app.router.add_put("/own/{rest:.*}", self._update)
        app.router.add_post("/own/{rest:.*}", self._notification)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self._runner.cleanup()

    def new_issuer(self) -> TokenIssuer:
        """An issuer with a key of its own."""
        return TokenIssuer(ec.generate_private_key(ec.SECP256R1()), "aimle", "aimle", 3600, self.clock)

    def client(self, trainer: Adder, **kwargs: Any) -> AimleClient:
        """A client of this server that has the data set `digits`."""
        arguments = {"services": ["val-vision"], "datasets": {"digits": trainer}, "credentials": CREDENTIALS}
        return AimleClient("ue-7", self.url, clock=self.clock, **(arguments | kwargs))

    async def call(
        self, client: AimleClient, method: str, path: str, body: Any = None, *, subject: str = "server-1",
        token: str | None = None, content_type: str = JSON,
    ) -> tuple[int, Any, Mapping[str, str]]:  # fmt: skip
        """Call the client's API as the server does; returns status, JSON body and headers."""
        if token is None:
            token, _ = self.issuer.issue(subject, SCOPES)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = body if isinstance(body, str) else json.dumps(body)
        url = client.status.uri + path
        async with self.session.request(method, url, data=data, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None, response.headers

    def publish(self, number: int, values: list[float]) -> str:
        """Make the global model of a round; returns its URL."""
        metadata = {"aimle.training": "t-1", "aimle.round": str(number), "aimle.config": json.dumps(PROFILE)}
        path = self.folder / f"model-{number}"
        tensors.write(path, {"w": np.array(values, np.float32)}, metadata)
        return f"{self.url}/own/rounds/{number}/model"

    def subscription(self, number: int = 1, **changes: Any) -> dict[str, Any]:
        """An HflTrngSub for a round whose model is [number, 2 x number]."""
        return {
            "requesterId": "server-1",
            "notifUri": f"{self.url}/own/rounds/{number}/notifications",
            "aimlMdlInfo": {"mlModelId": "m", "mlModelLoc": {"uri": self.publish(number, [number, 2 * number])}},
            "dataId": "digits",
            "noDataSamp": 100,
            "vaSrvId": "val-vision",
        } | changes  # fmt: skip

    def notified(self, number: int) -> list[Any]:
        """Notifications of a round."""
        return self.notifications.get(f"/own/rounds/{number}/notifications", [])

    def update(self, number: int) -> tuple[list[float], dict[str, str]]:
        """The values and the metadata of the update that came in for a round."""
        arrays, metadata = tensors.read(self.updates[f"/own/rounds/{number}/update"])
        return arrays["w"].tolist(), metadata

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        token, seconds = self.issuer.issue("ue-7", str(form["scope"]).split())
        return web.json_response({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response(self.issuer.jwks())

    async def _register(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        body = await request.json() if request.can_read_body else None
        identifier = request.path.rpartition("/")[2]
        self.calls.append((request.method, request.path, body))
        if request.method in self.refuse:
            return web.json_response(
                {"status": self.refuse[request.method]}, status=self.refuse[request.method]
            )
        if request.method == "POST":
            identifier = f"reg-{len(self.calls)}"
            self.registrations[identifier] = body
            location = f"https://elsewhere.example{request.path}/{identifier}"
            return web.json_response(self._granted(body), status=201, headers={"Location": location})
        if identifier not in self.registrations:
            return web.json_response({"status": 404}, status=404)
        if request.method == "PUT":
            return web.json_response(self._granted(body["regData"]))
        del self.registrations[identifier]
        return web.Response(status=204)

    def _granted(self, document: Any) -> dict[str, Any]:
        if self.lifetime is None:
            return {"regData": document}
        return {"regData": document, "expTime": to_wire(self.clock.now() + timedelta(seconds=self.lifetime))}

    async def _model(self, request: web.Request) -> web.StreamResponse:
        number = request.match_info["round"]
        if request.method == "GET":
            self.fetched.append(number)
        headers = {"Link": '<update>; rel="aggregation"'} if self.link else {}
        return web.FileResponse(self.folder / f"model-{number}", headers=headers)

    async def _update(self, request: web.Request) -> web.Response:
        path = self.folder / f"update-{len(self.updates)}"
        path.write_bytes(await request.read())
        self.updates[request.path] = path
        return web.Response(status=204)

    async def _notification(self, request: web.Request) -> web.Response:
        self.notifications.setdefault(request.path, []).append(await request.json())
        return web.Response(status=204)

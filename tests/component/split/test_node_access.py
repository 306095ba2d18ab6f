"""Who may do what at a node, and how it is registered."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.apis.split_node import API
from aimle_client.http import ClientCredentials
from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.split.registration import VALIDITY
from sbi.clock import Clock
from sbi.issuer import TokenIssuer
from tests.support import START, ManualClock, eventually
from tests.support_onnx import chain, inputs
from tests.support_split import BASE, all_of

pytestmark = pytest.mark.split

CREDENTIALS = ClientCredentials("edge-1", "a-secret")


@dataclass
class MiniServer:
    """What a node needs of an AIMLE server: tokens, a register of nodes, and a model that needs a token."""

    issuer: TokenIssuer
    calls: list[tuple[str, str]] = field(default_factory=list)
    registered: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def token(self, subject: str = "server", scope: str = "aimle-split-node") -> dict[str, str]:
        """An Authorization header."""
        return {"Authorization": f"Bearer {self.issuer.issue(subject, [scope])[0]}"}

    async def give_token(self, request: web.Request) -> web.Response:
        """To the node."""
        form = await request.post()
        token, seconds = self.issuer.issue("edge-1", [str(form["scope"])])
        return web.json_response({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})

    async def register(self, request: web.Request) -> web.Response:
        """Make, change and remove registrations."""
        assert request.headers["Authorization"].startswith("Bearer ")
        identifier = request.match_info.get("id", "")
        self.calls.append((request.method, identifier))
        if request.method == "POST":
            identifier = f"node-{len(self.calls)}"
            self.registered[identifier] = await request.json()
            location = f"{self.url}{request.path}/{identifier}"
            return web.json_response(self.registered[identifier], status=201, headers={"Location": location})
        if identifier not in self.registered:
            raise web.HTTPNotFound
        if request.method == "PATCH":
            self.registered[identifier] |= await request.json()
            return web.json_response(self.registered[identifier])
        del self.registered[identifier]
        return web.Response(status=204)

    async def give_model(self, request: web.Request) -> web.Response:
        """With a token only."""
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            raise web.HTTPUnauthorized
        return web.Response(body=chain())


@asynccontextmanager
async def mini_server(clock: Clock) -> AsyncIterator[MiniServer]:
    """The server, for the time of the block."""
    key = ec.generate_private_key(ec.SECP256R1())
    mini = MiniServer(TokenIssuer(key, "aimle", "aimle", 3600, clock))

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response(mini.issuer.jwks())

    app = web.Application()
    app.router.add_post("/oauth2/token", mini.give_token)
    app.router.add_get("/oauth2/jwks", jwks)
    app.router.add_route("*", "/aimles-sonreg/v1/configurations", mini.register)
    app.router.add_route("*", "/aimles-sonreg/v1/configurations/{id}", mini.register)
    app.router.add_get("/aimle-artifacts/v1/models/part", mini.give_model)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    mini.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield mini
    finally:
        await runner.cleanup()


async def test_control_needs_a_token_and_data_the_address() -> None:
    """Stages are made and seen with a token, by their owner only; who knows a stage's addresses may use it."""
    async with (
        mini_server(Clock()) as mini,
        aiohttp.ClientSession() as session,
        ProcessingNode(mini.url, credentials=CREDENTIALS) as node,
    ):
        stages = f"{node.uri}{BASE}/stages"
        body = {"modelUri": f"{mini.url}/aimle-artifacts/v1/models/part"}
        for headers, expected in (({}, 401), (mini.token(scope="aimles-disc"), 403), (mini.token(), 201)):
            async with session.post(stages, json=body, headers=headers) as answer:
                assert answer.status == expected
                stage = await answer.json()
        own = f"{stages}/{stage['stageId']}"
        for headers, expected in ((mini.token("somebody else"), 404), ({}, 401), (mini.token(), 200)):
            async with session.get(own, headers=headers) as answer:
                assert answer.status == expected
        async with session.get(stages, headers=mini.token("somebody else")) as answer:
            assert await answer.json() == {"stages": []}
        async with SplitPipeline(stage["inputUri"], stage["resultsUri"]) as pipeline:
            assert len(await all_of(pipeline, [inputs(chain())])) == 1


async def test_what_needs_a_token_says_so() -> None:
    """Each operation that is no data path answers 401 without a token, and whatever is refused is a ProblemDetails."""
    async with (
        mini_server(Clock()) as mini,
        aiohttp.ClientSession() as session,
        ProcessingNode(mini.url, credentials=CREDENTIALS) as node,
    ):
        for operation in API.operations:
            path = re.sub(r"{\w+(:[^}]*)?}", "0", operation.path)
            async with session.request(operation.method, f"{node.uri}{BASE}{path}") as answer:
                assert answer.status == 401 if not operation.capability else answer.status in (400, 404)
                assert answer.content_type == "application/problem+json"
            async with session.request("PATCH", f"{node.uri}{BASE}{path}") as answer:
                assert (answer.status, answer.content_type) == (405, "application/problem+json")


async def test_a_node_registers_renews_and_leaves() -> None:
    """Each model is registered with the node's URI and an end, which is moved on in time; at last it is withdrawn."""
    clock = ManualClock()

    def some_time_later(condition: Callable[[], bool]) -> bool:
        clock.advance(1)
        return condition()

    async with mini_server(clock) as mini:
        options = {"credentials": CREDENTIALS, "models": ["digits"], "clock": clock}
        async with ProcessingNode(mini.url, **options) as node:
            [[identifier, made]] = mini.registered.items()
            assert made["nodeInfo"] == {"uri": node.uri}
            assert made["sonRegCapability"]["modelInfo"]["modelId"] == "digits"
            before = made["timeValidity"]["stopTime"]
            renewed = lambda: mini.registered[identifier]["timeValidity"]["stopTime"] > before  # noqa: E731
            await eventually(lambda: some_time_later(renewed))
            assert clock.now() - START < VALIDITY
            mini.registered.clear()
            await eventually(lambda: some_time_later(lambda: bool(mini.registered)))
            assert list(mini.registered) != [identifier]
        assert mini.registered == {}

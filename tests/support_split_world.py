"""A whole server with a model and nodes that register themselves: where tests have pipelines that it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from aimle_client.http import ClientCredentials
from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.testing import RunningServer, running_server
from aimle_client.val import ValServer
from sbi.clock import Clock
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.support import Listener
from tests.support_onnx import inputs, residual, run
from tests.support_split_pipelines import PIPELINES, stage

Json = Any

NODES = ("ue", "edge", "cloud")


@dataclass
class World:
    """A server with the model `net`, which nodes run, and a VAL server that listens."""

    server: RunningServer
    http: aiohttp.ClientSession
    issuer: TokenIssuer
    val: Listener
    stack: AsyncExitStack
    nodes: dict[str, ProcessingNode] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: Json = None, caller: str = "val-1"
    ) -> tuple[int, Json, str]:
        """Status, body and Location."""
        url = path if path.startswith("http") else self.server.url + path
        scope = url.split("/")[3]
        headers = {"Authorization": f"Bearer {self.issuer.issue(caller, [scope])[0]}"}
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            content = await answer.json(content_type=None) if await answer.read() else None
            return answer.status, content, answer.headers.get("Location", "")

    async def start_node(self, name: str) -> None:
        """A node, which registers itself."""
        running = ProcessingNode(self.server.url, models=["net"], credentials=self.server.credentials[name])
        self.nodes[name] = await self.stack.enter_async_context(running)

    def request(self, *names: str, **extension: Json) -> Json:
        """A SplitOpPipelineCreateReq for these nodes."""
        wanted = {"stageInfo": [stage(*(self.nodes[name].uri for name in names), model="net")]}
        if extension:
            wanted["aimle"] = extension
        return {"requestorId": "val-1", "notifUri": self.val.url("/own"), "splitOpRequirements": wanted}

    async def create(self, *names: str, **extension: Json) -> tuple[Json, str]:
        """A pipeline's profile and Location."""
        status, answer, location = await self.call("POST", PIPELINES, self.request(*names, **extension))
        assert status == 201, answer
        return answer["splitOpProfile"], location

    async def models(self) -> list[str]:
        """All models that the VAL server can find."""
        criteria = '{"mlModelId": "*", "storeDiscReqs": {"duration": 0}}'
        status, found, _ = await self.call("GET", f"/mlr-mid/v1/models?filt-criteria={criteria}")
        assert status in (200, 404), found
        return sorted(one["mlModelInfo"]["mlModelId"] for one in (found or {}).get("profiles", ()))

    def told(self, path: str = "/own") -> list[Json]:
        """The profiles that somebody was told of; `/own` is the requestor."""
        bodies = [one.body for one in self.val.received if one.path == path]
        return [body["splitOpPipelineInfo"]["splitOpProfile"] for body in bodies]


@asynccontextmanager
async def a_world(database_settings: dict[str, str], folder: Path) -> AsyncIterator[World]:
    """Three nodes are there, for the time of the block."""
    settings = database_settings | {"auth.key_file": str(folder / "key.pem")}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(settings, clients=["val-1", "val-2", *NODES]))
        await _store(server, server.credentials["val-1"], folder / "net.onnx")
        issuer = TokenIssuer(load_or_create_key(folder / "key.pem"), "aimle", "aimle", 3600, Clock())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        val = await stack.enter_async_context(Listener())
        opened = World(server, http, issuer, val, stack)
        for name in NODES:
            await opened.start_node(name)
        yield opened


async def _store(server: RunningServer, credentials: ClientCredentials, path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, residual())
    async with ValServer(server.url, credentials) as val:
        await val.store_model(
            "net", services=["any"], access="PUBLICLY_AVAILABLE", info={"interopInfo": "ONNX"}
        )
        await val.upload_model("net", path)


async def answers(profile: Json) -> dict[str, np.ndarray]:
    """What comes out of a pipeline, for one frame; compared with the model as a whole."""
    frame = inputs(residual())
    async with (
        asyncio.timeout(20),
        SplitPipeline(profile["headEp"]["uri"], profile["tailEp"]["uri"]) as pipeline,
    ):
        found = await pipeline.infer(frame)
    for name, values in run(residual(), frame).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)
    return found

"""Nodes of pipelines for tests, real ones on loopback, and a server of files that parts are fetched from."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import aiohttp
from aiohttp import web

from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_server.split.aim import Aim
from aimle_server.split.cutting import CuttableModel
from aimle_server.split.deployment import Deployment, Part
from aimle_server.split.execution import PipelineRunner
from aimle_server.split.nodes import NodeClient
from sbi.outbound import Outbound, TargetPolicy

BASE = "/aimle-split-node/v1"

Json = Any


@dataclass
class Files:
    """An HTTP server of files: `put` them, and they have a URL."""

    contents: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    url: str = ""

    def put(self, content: bytes) -> str:
        """Where these bytes are from now on."""
        name = hashlib.sha256(content).hexdigest()
        self.contents[name] = content
        return f"{self.url}/{name}"

    async def get(self, request: web.Request) -> web.Response:
        """A file."""
        name = request.match_info["name"]
        self.fetched.append(name)
        if name not in self.contents:
            raise web.HTTPNotFound
        return web.Response(body=self.contents[name])


@asynccontextmanager
async def serving_files() -> AsyncIterator[Files]:
    """The server of files, for the time of the block."""
    files = Files()
    app = web.Application()
    app.router.add_get("/{name}", files.get)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        files.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield files
    finally:
        await runner.cleanup()


@asynccontextmanager
async def nodes(count: int, **options: Any) -> AsyncIterator[list[ProcessingNode]]:
    """So many nodes that take calls of everybody."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(a_node(**options)) for _ in range(count)]


def a_node(**options: Any) -> ProcessingNode:
    """A node that registers nowhere and takes calls of everybody."""
    return ProcessingNode("http://127.0.0.1:1", insecure_no_auth=True, **options)


class Server:
    """Calls nodes as an AIMLE server does."""

    def __init__(self, session: aiohttp.ClientSession, files: Files) -> None:
        self.session = session
        self.files = files

    async def call(
        self, node: ProcessingNode, method: str, path: str, body: Json = None, **options: Any
    ) -> tuple[int, Json, Mapping[str, str]]:
        """Status, JSON body and headers of a node's answer."""
        url = node.uri + BASE + path
        if body is not None:
            options["json"] = body
        async with self.session.request(method, url, **options) as answer:
            is_json = "json" in answer.content_type
            return answer.status, await answer.json() if is_json else await answer.read(), answer.headers

    async def load(self, node: ProcessingNode, part: bytes, **more: Any) -> Json:
        """A stage of this node."""
        body = {"modelUri": self.files.put(part), **more}
        status, stage, _ = await self.call(node, "POST", "/stages", body)
        assert status == 201, stage
        return stage

    async def connect(self, node: ProcessingNode, stage: Json, after: Json) -> None:
        """Send what comes out of a stage to another one."""
        path = f"/stages/{stage['stageId']}/next"
        assert (await self.call(node, "PUT", path, {"uri": after["inputUri"]}))[0] == 204

    async def pipeline(self, at: list[ProcessingNode], parts: list[bytes]) -> list[Json]:
        """The stages of a pipeline, each part at one node, connected."""
        stages = [await self.load(node, part) for node, part in zip(at, parts, strict=True)]
        for node, stage, after in zip(at, stages, stages[1:], strict=False):
            await self.connect(node, stage, after)
        return stages


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """The server's side, for the time of the block."""
    async with serving_files() as files, aiohttp.ClientSession() as session:
        yield Server(session, files)


async def all_of(pipeline: Any, frames: list[Any]) -> list[Any]:
    """The results of these frames, in their order, within ten seconds."""
    async with asyncio.timeout(10):
        return [result async for result in pipeline.map(frames)]


@dataclass
class Told:
    """Who is told of deployments, and has a pipeline follow them.

    Attributes:
        deployments: all of them, None where nothing worked any more.
        pipeline: moved to each of them.
    """

    deployments: list[Deployment | None] = field(default_factory=list)
    pipeline: SplitPipeline | None = None

    async def __call__(self, deployment: Deployment | None) -> None:
        """A deployment."""
        self.deployments.append(deployment)
        if self.pipeline is not None and deployment is not None:
            self.pipeline.move(deployment.head, deployment.tail)


@asynccontextmanager
async def a_runner(
    uris: Mapping[str, str], model: bytes, aim: Aim, files: Files, told: Told, **options: Any
) -> AsyncIterator[PipelineRunner]:
    """A runner for nodes at these URIs, by name; parts are kept in `files`."""

    async def store(part: Part) -> str:
        return files.put(part.content)

    outbound = Outbound(TargetPolicy(allow=(ip_network("127.0.0.0/8"),)))
    nodes = {name: NodeClient(outbound, uri) for name, uri in uris.items()}
    runner = PipelineRunner(nodes, CuttableModel(model), store, aim, tell=told, **options)
    try:
        yield runner
    finally:
        await runner.stop()
        await outbound.close()

"""Split operation as tests describe it: nodes, stages, and a server with nodes and a VAL server around it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp

from aimle_client.testing import RunningServer, running_server
from ml_repository.database import Database
from sbi.clock import to_wire
from sbi.issuer import TokenIssuer, load_or_create_key
from tests.support import START, Listener, ManualClock, eventually
from tests.support_models import PUBLIC, profile, storage

Json = dict[str, Any]

NODES = "/aimles-sonreg/v1/configurations"
PIPELINES = "/aimles-sopl/v1/request"
DISCOVERY = "/aimles-sopl/v1/discovery"
EVENTS = "/aimles-splitopevent/v1/subscriptions"
PATCH = {"Content-Type": "application/merge-patch+json"}
VAL, OTHER = "val-1", "val-2"


def valid(start: float, stop: float) -> Json:
    """A TimeWindow, in hours from START."""
    return {
        "startTime": to_wire(START + timedelta(hours=start)),
        "stopTime": to_wire(START + timedelta(hours=stop)),
    }


def node(uri: str = "http://127.0.0.1:9/node", model: str = "model", **changes: Any) -> Json:
    """A SplitOpNodeReg; `changes` replace or add attributes."""
    capability = {"modelInfo": {"modelId": model, "modelVersion": "1", "suppOperation": ["INFERENCE"]}}
    return {"nodeInfo": {"uri": uri}, "sonRegCapability": capability} | changes


def stage(*uris: str, model: str = "model", stage_id: str = "1", **changes: Any) -> Json:
    """A StageInfo of the nodes at these URIs."""
    order = [{"uri": uri} for uri in uris]
    whole = {
        "stageId": stage_id,
        "headEp": order[0],
        "tailEp": order[-1],
        "nodeOrder": order,
        "mlModelId": model,
    }
    return whole | changes


@dataclass
class SplitWorld:
    """A server that asks for tokens, whose clock the test moves; nodes that listen; a VAL server that listens."""

    server: RunningServer
    http: aiohttp.ClientSession
    issuer: TokenIssuer
    clock: ManualClock
    val: Listener
    stack: AsyncExitStack
    nodes: dict[str, Listener] = field(default_factory=dict)
    registrations: dict[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        caller: str = VAL,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, str]:
        """Status, body and Location of the answer."""
        url = path if path.startswith("http") else self.server.url + path
        scope = url.removeprefix(self.server.url).split("/")[1]
        token = {"Authorization": f"Bearer {self.issuer.issue(caller, [scope])[0]}"}
        async with self.http.request(method, url, json=body, headers={**token, **(headers or {})}) as answer:
            text = await answer.text()
            content = await answer.json(content_type=None) if text else None
            return answer.status, content, answer.headers.get("Location", "")

    async def made(self, path: str, body: Json, caller: str = VAL) -> tuple[Any, str]:
        """Body and Location of what a POST has made."""
        status, answer, location = await self.call("POST", path, body, caller)
        assert status == 201, answer
        return answer, location

    async def add_node(self, name: str, model: str = "model", caller: str = VAL, **changes: Any) -> str:
        """A registered node that listens; its address."""
        self.nodes[name] = await self.stack.enter_async_context(Listener())
        address = self.nodes[name].url(f"/{name}")
        _, self.registrations[name] = await self.made(NODES, node(address, model, **changes), caller)
        return address

    async def create(self, *stages: Json, caller: str = VAL, **wanted: Any) -> tuple[Json, str]:
        """A new pipeline's profile and Location; its requestor hears at `/own` of the VAL server."""
        wanted = {"stageInfo": list(stages), **wanted}
        body = {"requestorId": caller, "notifUri": self.val.url("/own"), "splitOpRequirements": wanted}
        answer, location = await self.made(PIPELINES, body, caller)
        return answer["splitOpProfile"], location

    async def subscribe(
        self, path: str = "/events", pipeline: str = "*", caller: str = VAL, **body: Any
    ) -> str:
        """The Location of a new subscription to pipelines, unless `body` says something else."""
        whole = {"splitOpPipelineId": pipeline, "splitOpEventId": "SPLIT_OP_PIPELINE_INFO", **body}
        _, location = await self.made(EVENTS, {**whole, "notifUri": self.val.url(path)}, caller)
        return location

    def told(self, path: str = "/events", listener: Listener | None = None) -> list[tuple[str, str, str]]:
        """Sub-event, pipeline and state of all that was told at a path, in order."""
        infos = [
            one.body["splitOpPipelineInfo"]
            for one in (listener or self.val).received
            if one.path == path and "splitOpPipelineInfo" in one.body
        ]
        return [
            (
                info.get("subEventId", ""),
                info["splitOpProfile"]["splitOpPipelineId"],
                info["splitOpProfile"]["aimle"]["state"],
            )
            for info in infos
        ]

    async def until_told(self, *expected: tuple[str, str, str], path: str = "/events") -> None:
        """Return when exactly this was told, in this order; time passes meanwhile, but not much."""

        def told() -> bool:
            self.clock.advance(0.02)
            return self.told(path) == list(expected)

        try:
            await eventually(told)
        except AssertionError:
            assert self.told(path) == list(expected)
            raise

    async def store(self, model: str = "model", caller: str = VAL, **info: Any) -> None:
        """A model for everybody, unless `info` says something else."""
        info = {"storeDiscReqs": PUBLIC, **info}
        await self.made("/mlr-mlmm/v1/storages", storage(profile(model, **info)), caller)

    async def until_node_told(self, name: str, *expected: str) -> None:
        """Return when a node was told exactly these sub-events, in this order."""
        listener = self.nodes[name]
        await eventually(lambda: [event for event, _, _ in self.told(f"/{name}", listener)] == list(expected))


@asynccontextmanager
async def split_world(mongo_url: str, database: Database, key_file: Any) -> AsyncIterator[SplitWorld]:
    """Nobody is there yet but the VAL server."""
    clock = ManualClock()
    settings = {
        "database.url": mongo_url,
        "database.name": database.db.name,
        "auth.key_file": str(key_file),
    }
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(settings, clients=[VAL, OTHER], clock=clock))
        issuer = TokenIssuer(load_or_create_key(key_file), "aimle", "aimle", 10**6, clock)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        val = await stack.enter_async_context(Listener())
        yield SplitWorld(server, http, issuer, clock, val, stack)

"""What the server asks a node of a pipeline, over HTTP: AIMLE_SplitNode, our extension."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema, ValidationError

from aimle_client.apis.split_node import API, FRAMES
from aimle_server.split.planner import Link
from sbi.outbound import Outbound, Response, TargetRefused, TargetUnreachable
from schemas.split_node import LinkProfile, NodeStatus, PartProfile, PipelineProfile, Probe, StageStatus

LOOK_SECONDS = 3.0
"""For an answer that costs a node nothing; one that takes longer is taken for dead."""

WORK_SECONDS = 120.0
"""For an answer that a node has to work for."""

_MAX_ANSWER = 1 << 20

_MOST_WORDS = 300
"""Characters of a node's reason that are told."""


class NodeError(Exception):
    """A node did not do what it was asked; the message is fit for who has the pipeline."""


class NodeUnreachable(NodeError):
    """It does not answer, or must not be called."""


class NodeRefused(NodeError):
    """It answered, and not as was hoped: it cannot, or it is no node."""


@dataclass(frozen=True)
class LoadedStage:
    """A stage at a node.

    Attributes:
        id: at the node.
        input_uri: where it takes frames.
        results_uri: where its results are fetched, if it is the last one.
    """

    id: str
    input_uri: str
    results_uri: str


@dataclass(frozen=True)
class StageLook:
    """How a stage is doing: broken or not, the seconds of one frame lately, if it did any, and how many it did."""

    broken: bool
    seconds: float | None
    frames: int


class NodeClient:
    """One node, as the server sees it.

    Args:
        outbound: makes the calls.
        uri: apiRoot of the node, `nodeInfo.uri` of its registration.

    Each method raises NodeUnreachable or NodeRefused.
    """

    def __init__(self, outbound: Outbound, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._outbound = outbound

    async def load(self, model_uri: str, sha256: str, batch: int) -> LoadedStage:
        """Have it fetch a part and run it; `batch` is how many samples frames will have."""
        body = {"modelUri": model_uri, "sha256": sha256, "batch": batch}
        stage = await self._call("POST", "/stages", StageStatus(), json=body)
        return LoadedStage(stage["stageId"], self._own(stage["inputUri"]), self._own(stage["resultsUri"]))

    async def connect(self, stage: LoadedStage, after: LoadedStage) -> None:
        """Have a stage of this node send its frames to another one."""
        await self._call("PUT", f"/stages/{stage.id}/next", None, json={"uri": after.input_uri})

    async def unload(self, stage: LoadedStage) -> None:
        """End a stage; one that is gone is fine."""
        await self._call("DELETE", f"/stages/{stage.id}", None, missing_ok=True, seconds=LOOK_SECONDS)

    async def look(self) -> Mapping[str, StageLook]:
        """How its stages are doing, by their id."""
        found = await self._call("GET", "/stages", NodeStatus(), seconds=LOOK_SECONDS)
        return {
            stage["stageId"]: StageLook(
                stage["state"] == "BROKEN", stage.get("secondsPerFrame"), stage["frames"]
            )
            for stage in found["stages"]
        }

    async def profile(self, part: bytes, batch: int) -> float:
        """Seconds that a part takes for one frame of so many samples, measured there."""
        found = await self._call(
            "POST", f"/profiles?batch={batch}", PartProfile(), data=part, content_type=FRAMES
        )
        return float(found["seconds"])

    async def measure_link(self, to: "NodeClient") -> Link:
        """How fast the way to another node is, measured by the two."""
        probe = await to._call("POST", "/probes", Probe(), seconds=LOOK_SECONDS)
        body = {"uri": to._own(probe["uri"])}
        found = await self._call("POST", "/links", LinkProfile(), json=body)
        if found["bytesPerSecond"] <= 0:
            raise NodeRefused("a node measures what cannot be")
        return Link(float(found["bytesPerSecond"]), float(found["latency"]))

    async def measure_pipeline(
        self, head: str, tail: str, tensors: Sequence[Mapping[str, Any]], frames: int
    ) -> tuple[float, float]:
        """Latency in s and frames per second of a pipeline, for somebody at this node."""
        body = {"pipeline": {"headUri": head, "tailUri": tail}, "tensors": list(tensors), "frames": frames}
        found = await self._call("POST", "/measurements", PipelineProfile(), json=body)
        return float(found["latency"]), float(found["framesPerSecond"])

    async def _call(
        self,
        method: str,
        path: str,
        schema: Schema | None,
        *,
        seconds: float = WORK_SECONDS,
        missing_ok: bool = False,
        **body: Any,
    ) -> Any:
        try:
            answer = await self._outbound.request(
                method,
                f"{self.uri}{API.base_path}{path}",
                timeout=seconds,
                max_body=_MAX_ANSWER,
                scope=API.scope,
                **body,
            )
        except (TargetRefused, TargetUnreachable) as error:
            raise NodeUnreachable(f"a node cannot be reached: {error}") from error
        if answer.status == 404 and missing_ok:
            return None
        if answer.status >= 500:
            raise NodeUnreachable(f"a node answers {answer.status}")
        return _read(answer, schema)

    def _own(self, uri: str) -> str:
        """An address that the node gives out: on itself, or it would have others call whomever it likes."""
        if not uri.startswith(f"{self.uri}{API.base_path}/"):
            raise NodeRefused("a node gives out addresses that are not its own")
        return uri


def _read(answer: Response, schema: Schema | None) -> Any:
    if not 200 <= answer.status < 300:
        raise NodeRefused(f"a node answers {answer.status}{_reason(answer)}")
    if schema is None:
        return None
    try:
        return schema.load(json.loads(answer.body))
    except (ValueError, ValidationError) as error:
        raise NodeRefused("a node answers something that its API does not have") from error


def _reason(answer: Response) -> str:
    """What the node says of it, if it says something."""
    try:
        detail = str(json.loads(answer.body)["detail"])
    except (ValueError, TypeError, LookupError):
        return ""
    return ": " + "".join(filter(str.isprintable, detail))[:_MOST_WORDS]


@dataclass
class Fleet:
    """The nodes that a pipeline may use.

    Attributes:
        nodes: all of them, by name, also those that were withdrawn and may still have something of ours.
        lost: names of those that did not answer lately.
        withdrawn: names of those that are to be used no more.
        refusing: names of those that did not take a part which they had measured.
    """

    nodes: dict[str, NodeClient]
    lost: set[str] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)

    @property
    def present(self) -> dict[str, NodeClient]:
        """Those that may be used and answer."""
        return {name: node for name, node in self._offered.items() if name not in self.lost}

    @property
    def _offered(self) -> dict[str, NodeClient]:
        unwanted = self.withdrawn | self.refusing
        return {name: node for name, node in self.nodes.items() if name not in unwanted}

    def offer(self, nodes: Mapping[str, NodeClient]) -> None:
        """These may be used from now on, and no others; who is new counts once it has answered a look."""
        self.lost |= nodes.keys() - self.present.keys()
        self.withdrawn = self.nodes.keys() - nodes.keys()
        self.nodes.update(nodes)

    @contextmanager
    def noting(self, name: str) -> Iterator[NodeClient]:
        """A node, which is lost if it turns out to be unreachable."""
        try:
            yield self.nodes[name]
        except NodeUnreachable:
            self.lost.add(name)
            raise

    async def look(self) -> dict[str, Mapping[str, StageLook]]:
        """What those see that answer, by name; the others are lost now, and those no longer."""
        nodes = self._offered
        looks = await asyncio.gather(*map(_look, nodes.values()))
        found = {name: look for name, look in zip(nodes, looks, strict=True) if look is not None}
        self.lost = set(nodes) - set(found)
        return found


async def _look(node: NodeClient) -> Mapping[str, StageLook] | None:
    try:
        return await node.look()
    except NodeError:
        return None

"""What is known of nodes and of the ways between them, all of it measured: the time of each part, the speed of links.

Measurements are kept, by node and part, until they are found to be out of date.
"""

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from aimle_server.split.cutting import CutPoint, CuttableModel
from aimle_server.split.nodes import NodeClient, NodeRefused, NodeUnreachable
from aimle_server.split.planner import MOST_NODES, Link, Problem

Times = Mapping[str, Mapping[tuple[int, int], float]]
"""Seconds by node and part."""


@dataclass(frozen=True)
class Part:
    """A part of the model that a node is to fetch.

    Attributes:
        first_cut, last_cut: its borders; 0 are the model's inputs.
        content: an ONNX model.
        sha256: of the content, in hexadecimal.
    """

    first_cut: int
    last_cut: int
    content: bytes
    sha256: str


class Profiles:
    """Seconds of one frame, by node, part and samples; one for all pipelines of a server."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], float | None] = {}

    def knows(self, node: NodeClient, sha256: str, batch: int) -> bool:
        """Whether the part with this digest was measured."""
        return (node.uri, sha256, batch) in self._seconds

    def get(self, node: NodeClient, sha256: str, batch: int) -> float | None:
        """What was measured; None: the node cannot run this part, or it was not measured."""
        return self._seconds.get((node.uri, sha256, batch))

    async def measure(self, node: NodeClient, part: Part, batch: int) -> float | None:
        """Measured now; None: the node cannot run this part.

        Raises:
            NodeUnreachable: it does not answer.
        """
        try:
            seconds: float | None = await node.profile(part.content, batch)
        except NodeRefused:
            seconds = None
        self._seconds[node.uri, part.sha256, batch] = seconds
        return seconds

    def forget(self, node: NodeClient) -> None:
        """This node has become faster or slower: all of its parts are measured again."""
        self._seconds = {key: value for key, value in self._seconds.items() if key[0] != node.uri}


class Survey:
    """The state of the nodes that a model may run on.

    Args:
        model: what is to be run.
        batch: samples of a frame.
        most_cuts: how many cuts are considered: each part between two of them is measured on each node.
        origin: as of Problem.
    """

    def __init__(
        self, model: CuttableModel, profiles: Profiles, *, batch: int, most_cuts: int, origin: str | None
    ) -> None:
        self.model = model
        self.cuts = spread(model.points, most_cuts)
        self._profiles = profiles
        self._batch = batch
        self._origin = origin
        self._links: dict[tuple[str, str], Link] = {}
        self._digests: dict[tuple[int, int], str] = {}

    @property
    def end(self) -> int:
        """The number of the last border, the model's results."""
        return len(self.cuts) + 1

    async def part(self, first: int, last: int) -> Part:
        """The part of the model between two borders; it is cut anew each time, many would need much memory."""
        part = await asyncio.to_thread(self._cut, first, last)
        self._digests[first, last] = part.sha256
        return part

    def _cut(self, first: int, last: int) -> Part:
        borders = [None, *self.cuts, None]
        content = self.model.part(borders[first], borders[last])
        return Part(first, last, content, hashlib.sha256(content).hexdigest())

    async def problem(self, nodes: Mapping[str, NodeClient]) -> Problem:
        """What a plan is made from; nodes that do not answer are left out."""
        names = list(nodes)
        found = await asyncio.gather(*(self._times(nodes[name]) for name in names))
        times = self._fastest(
            {name: known for name, known in zip(names, found, strict=True) if known is not None}
        )
        await self._measure_links({name: nodes[name] for name in times})
        links = {(one, two): link for (one, two), link in self._links.items() if {one, two} <= times.keys()}
        per_sample = [
            self.model.input_bytes,
            *(cut.bytes_per_sample for cut in self.cuts),
            self.model.output_bytes,
        ]
        return Problem([size * self._batch for size in per_sample], times, links, self._origin)

    def forget(self, node: NodeClient) -> None:
        """As of Profiles."""
        self._profiles.forget(node)

    async def review(self, nodes: Mapping[str, NodeClient], margin: float) -> bool:
        """Measure links, and one part on each node, again; whether something has changed by more than the margin."""
        before, self._links = self._links, {}
        speeds = [await self._speed_changed(node, margin) for node in nodes.values()]
        await self._measure_links(nodes)
        changed = [
            differs(link.seconds(size), before[pair].seconds(size), margin)
            for pair, link in self._links.items()
            if pair in before
            for size in (0, self._batch * max(1, self.model.input_bytes))
        ]
        return any(speeds) or any(changed) or self._links.keys() != before.keys()

    async def _speed_changed(self, node: NodeClient, margin: float) -> bool:
        """Whether a node runs the whole model faster or slower than it did."""
        whole = await self.part(0, self.end)
        before = self._profiles.get(node, whole.sha256, self._batch)
        if before is None:
            return False
        try:
            now = await self._profiles.measure(node, whole, self._batch)
        except NodeUnreachable:
            return False
        if now is None or not differs(now, before, margin):
            return False
        self._profiles.forget(node)
        return True

    def _fastest(self, times: Times) -> Times:
        """As many nodes as are planned with; the origin is always among them."""

        def rank(name: str) -> tuple[bool, float]:
            return name != self._origin, times[name].get((0, self.end), math.inf)

        return {name: times[name] for name in sorted(times, key=rank)[:MOST_NODES]}

    async def _times(self, node: NodeClient) -> Mapping[tuple[int, int], float] | None:
        """By part; None: the node does not answer."""
        times = {}
        try:
            for first, last in combinations(range(self.end + 1), 2):
                seconds = await self._seconds(node, first, last)
                if seconds is not None:
                    times[first, last] = seconds
        except NodeUnreachable:
            return None
        return times

    async def _seconds(self, node: NodeClient, first: int, last: int) -> float | None:
        part = None
        if (first, last) not in self._digests:
            part = await self.part(first, last)
        digest = self._digests[first, last]
        if self._profiles.knows(node, digest, self._batch):
            return self._profiles.get(node, digest, self._batch)
        return await self._profiles.measure(node, part or await self.part(first, last), self._batch)

    async def _measure_links(self, nodes: Mapping[str, NodeClient]) -> None:
        """One after another: two at once would share what is measured."""
        for one, two in permutations(nodes, 2):
            if (one, two) not in self._links:
                try:
                    self._links[one, two] = await nodes[one].measure_link(nodes[two])
                except (NodeUnreachable, NodeRefused):
                    continue


def differs(now: float, before: float, margin: float) -> bool:
    """Whether a measurement has moved by more than this fraction of what it was."""
    return abs(now - before) > margin * before


def spread(points: Sequence[CutPoint], most: int) -> list[CutPoint]:
    """So many cuts along the whole graph: of each stretch of it the one that fewest bytes cross."""
    groups = min(most, len(points))
    stretches = [
        points[index * len(points) // groups : (index + 1) * len(points) // groups] for index in range(groups)
    ]
    return [min(stretch, key=lambda point: point.bytes_per_sample) for stretch in stretches]

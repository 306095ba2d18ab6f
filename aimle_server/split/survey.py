"""What is known of nodes and of the ways between them, all of it measured: the time of each part, the speed of links.

Measurements are kept, by node and part, until they are found to be out of date.
"""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from aimle_server.split.aim import Aim
from aimle_server.split.cutting import CuttableModel, spread
from aimle_server.split.nodes import NodeClient, NodeRefused, NodeUnreachable
from aimle_server.split.planner import MOST_NODES, Link, NoPlan, Plan, Problem, Stage, predict
from aimle_server.split.search import Known, Measured, least_times, seek
from aimle_server.split.stages import Stages

MOST_CUTS = 256
"""Of a model with more of them so many are considered, spread over it."""


@dataclass(frozen=True)
class Part:
    """A part of the model that a node is to fetch.

    Attributes:
        first_cut, last_cut: its borders; 0 are the model's inputs.
        stages: numbers of the stages of the model that it has something of.
        content: an ONNX model.
        sha256: of the content, in hexadecimal.
    """

    first_cut: int
    last_cut: int
    stages: range
    content: bytes
    sha256: str


Positions = tuple[int, int]
"""Of the borders of a part: how many of the model's nodes are before each."""


class Profiles:
    """Seconds of one frame, by node, model, samples and part; one for all pipelines of a server."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], dict[Positions, float | None]] = {}

    def of(self, node: NodeClient, model: CuttableModel, batch: int) -> dict[Positions, float | None]:
        """What was measured; None for a part that the node cannot run. Whoever measures more adds it here."""
        return self._seconds.setdefault((node.uri, model.sha256, batch), {})

    def forget(self, node: NodeClient) -> None:
        """This node has become faster or slower: all of its parts are measured again."""
        self._seconds = {key: value for key, value in self._seconds.items() if key[0] != node.uri}


class Survey:
    """The state of the nodes that a model may run on.

    Args:
        model: what is to be run.
        profiles: what is known of the nodes already.
        aim: what it is to be.

    Attributes:
        cuts: those that are considered, in their order.
        stages: which parts are of which stage of the model, and who may run them.
    """

    def __init__(self, model: CuttableModel, profiles: Profiles, aim: Aim) -> None:
        self.model = model
        self.cuts = spread(model.points, min(aim.most_cuts or MOST_CUTS, MOST_CUTS), model.joints)
        limits = [0, *(1 + self.cuts.index(joint) for joint in model.joints), self.end]
        self.stages = Stages(limits, aim.workers)
        self._profiles = profiles
        self._aim = aim
        self._links: dict[tuple[str, str], Link] = {}
        self._positions = [0, *(cut.position for cut in self.cuts), model.length]

    @property
    def end(self) -> int:
        """The number of the last border, the model's results."""
        return len(self.cuts) + 1

    def gives(self, border: int) -> tuple[str, ...]:
        """The tensors that cross a border."""
        return [self.model.inputs, *(cut.tensors for cut in self.cuts), self.model.outputs][border]

    @property
    def sizes(self) -> list[int]:
        """Bytes of a frame at each border."""
        per_sample = [
            self.model.input_bytes,
            *(cut.bytes_per_sample for cut in self.cuts),
            self.model.output_bytes,
        ]
        return [size * self._aim.batch for size in per_sample]

    async def best(self, nodes: Mapping[str, NodeClient], *, confirm: bool = False) -> Plan:
        """The best plan for these nodes; those that do not answer are left out. What could be in it is measured.

        Args:
            confirm: as of `seek`.

        Raises:
            NoPlan: none is possible.
        """
        known = await self._known(nodes)

        async def measure(stage: Stage) -> None:
            part = (stage.first_cut, stage.last_cut)
            try:
                known[stage.node][part] = await self._measure(nodes[stage.node], *part, again=True)
            except NodeUnreachable:
                known.pop(stage.node, None)

        problem = await self._problem(nodes, known)
        return await seek(problem, self._aim.objective, known, measure, confirm=confirm)

    async def predict(
        self, nodes: Mapping[str, NodeClient], stages: Sequence[Stage], origin: str | None = None
    ) -> Plan:
        """What to expect of these stages, which are measured if need be.

        Args:
            origin: as of Problem; None: the aim's.

        Raises:
            NoPlan: they cannot run one after another; NodeUnreachable: a node does not answer.
        """
        known: Known = {}
        for stage in stages:
            if stage.node not in nodes:
                raise NoPlan("a node is not there")
            node, part = nodes[stage.node], (stage.first_cut, stage.last_cut)
            known[stage.node] = self._measured(node)
            if part not in known[stage.node]:
                known[stage.node][part] = await self._measure(node, *part)
        problem = await self._problem(nodes, known)
        times = {name: least_times(measured, len(self.sizes)) for name, measured in known.items()}
        return predict(replace(problem, times=times, origin=origin or problem.origin), stages)

    async def part(self, first: int, last: int) -> Part:
        """The part of the model between two borders; it is cut anew each time, many would need much memory."""
        return await asyncio.to_thread(self._cut, first, last)

    def _cut(self, first: int, last: int) -> Part:
        borders = [None, *self.cuts, None]
        content = self.model.part(borders[first], borders[last])
        return Part(first, last, self.stages.of(first, last), content, hashlib.sha256(content).hexdigest())

    def forget(self, node: NodeClient) -> None:
        """As of Profiles."""
        self._profiles.forget(node)

    async def review(self, nodes: Mapping[str, NodeClient], busy: Collection[str]) -> bool:
        """Measure links, and nodes that do nothing, again; whether something has changed by more than the margin.

        Args:
            busy: names of nodes that run a part, which measuring would hold up.
        """
        before, self._links = self._links, {}
        idle = [name for name in self._workers(nodes) if name not in busy]
        speeds = [await self._speed_changed(name, nodes[name]) for name in idle]
        await self._measure_links(nodes)
        changed = [
            differs(link.seconds(size), before[pair].seconds(size), self._aim.margin)
            for pair, link in self._links.items()
            if pair in before
            for size in (0, self._aim.batch * max(1, self.model.input_bytes))
        ]
        return any(speeds) or any(changed) or self._links.keys() != before.keys()

    async def _speed_changed(self, name: str, node: NodeClient) -> bool:
        """Whether a node runs as much of the model as it may faster or slower than it did."""
        most = self.stages.largest(name)
        before = self._measured(node).get(most)
        if before is None:
            return False
        try:
            now = await self._measure(node, *most)
        except NodeUnreachable:
            return False
        if now is None or not differs(now, before, self._aim.margin):
            return False
        self._profiles.forget(node)
        return True

    async def _known(self, nodes: Mapping[str, NodeClient]) -> Known:
        """What was measured on as many nodes as are planned with, at least as much of the model as each may run."""
        workers = self._workers(nodes)
        found = await asyncio.gather(*(self._most(name, nodes[name]) for name in workers))
        known = dict(zip(workers, found, strict=True))
        answering = {name: measured for name, measured in known.items() if measured is not None}
        return {name: answering[name] for name in self._ranked(answering)[:MOST_NODES]}

    def _ranked(self, known: Known) -> list[str]:
        """The nodes: the origin, then the fastest of those that may run the same, then the second ones, and so on."""
        most = {name: self.stages.largest(name) for name in known}
        fastest = sorted(known, key=lambda name: known[name][most[name]] or math.inf)
        before = Counter[tuple[int, int]]()
        places = {}
        for name in fastest:
            places[name] = (name != self._aim.origin, before[most[name]])
            before[most[name]] += 1
        return sorted(fastest, key=places.__getitem__)

    async def _most(self, name: str, node: NodeClient) -> Measured | None:
        """What was measured on a node; None: it does not answer."""
        most = self.stages.largest(name)
        try:
            if most not in self._measured(node):
                await self._measure(node, *most)
        except NodeUnreachable:
            return None
        return self._measured(node)

    def _workers(self, nodes: Mapping[str, NodeClient]) -> list[str]:
        """Those that may run parts."""
        return [name for name in nodes if self.stages.may_work(name)]

    def _measured(self, node: NodeClient) -> Measured:
        """What was measured on a node, between the borders that are considered."""
        border = {position: number for number, position in enumerate(self._positions)}
        return {
            (border[first], border[last]): seconds
            for (first, last), seconds in self._profiles.of(node, self.model, self._aim.batch).items()
            if first in border and last in border
        }

    async def _measure(self, node: NodeClient, first: int, last: int, *, again: bool = False) -> float | None:
        """Seconds of a part, measured now; None: the node cannot run it. NodeUnreachable.

        `again`: what was measured before counts as much.
        """
        part = await self.part(first, last)
        try:
            seconds: float | None = await node.profile(part.content, self._aim.batch)
        except NodeRefused:
            seconds = None
        measured = self._profiles.of(node, self.model, self._aim.batch)
        positions = self._positions[first], self._positions[last]
        before = measured.get(positions) if again else None
        measured[positions] = seconds if seconds is None or before is None else (seconds + before) / 2
        return measured[positions]

    async def _problem(self, nodes: Mapping[str, NodeClient], workers: Collection[str]) -> Problem:
        """What a plan for these workers is made from, but for the times."""
        ends = {*workers, self._aim.origin}
        await self._measure_links({name: nodes[name] for name in nodes if name in ends})
        return Problem(
            sizes=self.sizes,
            times={},
            links={pair: link for pair, link in self._links.items() if set(pair) <= nodes.keys()},
            origin=self._aim.origin,
            order=self._aim.order,
            allowed=self.stages.allowed,
        )

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

"""Putting a plan to work: each part is stored, fetched by its node, and connected to the next one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from aimle_server.split.nodes import Fleet, LoadedStage, NodeError, NodeRefused
from aimle_server.split.planner import Plan, Stage
from aimle_server.split.survey import Part, Survey

__all__ = ["Deployer", "Deployment", "Measurement", "Part", "RunningStage", "Store"]

_log = logging.getLogger("aimle.split")


Store = Callable[[Part], Awaitable[str]]
"""Keeps a part where its node can fetch it; its URL."""


@dataclass(frozen=True)
class RunningStage:
    """A stage of the plan, where it is, and the tensors that it gives.

    Attributes:
        model_stages: numbers of the stages of the model that its part has something of.
    """

    stage: Stage
    loaded: LoadedStage
    gives: tuple[str, ...]
    model_stages: range


@dataclass(frozen=True)
class Measurement:
    """What was predicted for somebody at a node, and what was measured there."""

    predicted_latency_s: float
    latency_s: float
    predicted_throughput_per_s: float
    throughput_per_s: float

    @property
    def latency_error(self) -> float:
        """Of the prediction, as a fraction of what was measured: 0.1 when it was a tenth too long."""
        return self.predicted_latency_s / self.latency_s - 1

    @property
    def throughput_error(self) -> float:
        """The same of the throughput."""
        return self.predicted_throughput_per_s / self.throughput_per_s - 1


@dataclass(frozen=True)
class Deployment:
    """A pipeline that works.

    Attributes:
        number: from 1; each new one has a higher one.
        plan: what it does, and what was predicted of it.
        stages: from the head to the tail.
        measurement: None: it was not measured.
    """

    number: int
    plan: Plan
    stages: tuple[RunningStage, ...]
    measurement: Measurement | None = None

    @property
    def head(self) -> str:
        """Where inputs go."""
        return self.stages[0].loaded.input_uri

    @property
    def tail(self) -> str:
        """Where results come from."""
        return self.stages[-1].loaded.results_uri


class Deployer:
    """Puts plans of one model to work.

    Args:
        fleet: the nodes.
        survey: cuts the model.
        store: keeps its parts, each once.
        batch: samples of a frame.
    """

    def __init__(self, fleet: Fleet, survey: Survey, store: Store, batch: int) -> None:
        self._fleet = fleet
        self._survey = survey
        self._store = store
        self._batch = batch
        self._stored: dict[tuple[int, int], tuple[str, str]] = {}

    async def deploy(self, chosen: Plan) -> tuple[RunningStage, ...]:
        """The plan's stages, loaded and connected; none of them is left if that fails.

        Raises:
            NodeUnreachable: a node is gone, and noted as lost; NodeRefused.
        """
        loaded: dict[Stage, RunningStage] = {}

        async def load(stage: Stage) -> None:
            loaded[stage] = await self._load(stage)

        try:
            for failed in await asyncio.gather(*map(load, chosen.stages), return_exceptions=True):
                if failed is not None:
                    raise failed
            stages = tuple(loaded[stage] for stage in chosen.stages)
            for one, after in reversed(list(pairwise(stages))):
                with self._fleet.noting(one.stage.node) as node:
                    await node.connect(one.loaded, after.loaded)
        except BaseException:
            await self.retire(loaded.values())
            raise
        return stages

    async def retire(self, stages: Iterable[RunningStage]) -> None:
        """End stages where they can be reached; those of a dead node are gone with it."""
        fleet = self._fleet
        unloading = (
            fleet.nodes[one.stage.node].unload(one.loaded)
            for one in stages
            if one.stage.node not in fleet.lost
        )
        for result in await asyncio.gather(*unloading, return_exceptions=True):
            if isinstance(result, NodeError):
                _log.info("a stage could not be ended: %s", result)

    async def _load(self, stage: Stage) -> RunningStage:
        borders = (stage.first_cut, stage.last_cut)
        if borders not in self._stored:
            part = await self._survey.part(*borders)
            self._stored[borders] = (await self._store(part), part.sha256)
        url, sha256 = self._stored[borders]
        with self._fleet.noting(stage.node) as node:
            try:
                loaded = await node.load(url, sha256, self._batch)
            except NodeRefused as error:
                self._fleet.refusing.add(stage.node)
                raise NodeRefused(f"{stage.node} does not take its part: {error}") from error
        survey = self._survey
        return RunningStage(stage, loaded, survey.gives(stage.last_cut), survey.stages.of(*borders))

"""Split operation pipeline discovery (TS 23.482 8.14.2.2): pipelines that there are, or one that can be made.

What the filters mean is in `split_filters`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aimle_server.procedures.split_filters import check_filters, make_stages, meets
from aimle_server.procedures.split_pipelines import SplitPipelineManagement
from aimle_server.procedures.split_stages import missing, named, profile_of, usable
from aimle_server.procedures.split_wishes import Wish
from ml_repository.models import Models
from ml_repository.split_nodes import Node, SplitNodes
from ml_repository.split_pipelines import Pipeline, SplitPipelines
from sbi.auth import Caller
from sbi.clock import Clock
from sbi.errors import NotFound

Wire = Mapping[str, Any]

_STAGES = "/discFilters/stageInfo"


class SplitDiscovery:
    """Finds pipelines and nodes."""

    def __init__(self, pipelines: SplitPipelines, nodes: SplitNodes, models: Models, clock: Clock) -> None:
        self._pipelines = pipelines
        self._nodes = nodes
        self._models = models
        self._clock = clock

    async def pipelines(self, caller: Caller, filters: Wire) -> list[Pipeline]:
        """The pipelines that meet the filters, that the caller may use, and whose nodes all count now."""
        candidates = await self._pipelines.with_model(filters["stageInfo"][0]["mlModelId"])
        fitting = [
            pipeline
            for pipeline in candidates
            if meets(pipeline, filters) and await self.may_see(caller, pipeline)
        ]
        there = await self._nodes.at(named(stages_of(fitting)), self._clock.now())
        ready = [one for one in fitting if usable(one, missing(one, there, filters.get("usageInfo")))]
        wished = set(named(filters["stageInfo"]))
        return sorted(ready, key=lambda one: -len(wished.intersection(named(one.stages))))

    async def nodes(self, filters: Wire) -> list[Node]:
        """The nodes that count now and run one of the models for this usage, preferred ones first."""
        stages, usage = filters["stageInfo"], filters.get("usageInfo", {})
        models, wished = {stage["mlModelId"] for stage in stages}, set(named(stages))
        running = await self._nodes.running(models, self._clock.now())
        able = [node for node in running if any(node.takes(model, usage) for model in models)]
        return sorted(able, key=lambda node: node.address not in wished)

    async def may_see(self, caller: Caller, pipeline: Pipeline) -> bool:
        """Whether the caller may know of a pipeline: it concerns the caller, or is for all who may have its models."""
        if caller.subject in pipeline.parties:
            return True
        return pipeline.multi_client and await self.may_have(caller, pipeline.models)

    async def may_have(self, caller: Caller, models: Iterable[str]) -> bool:
        """Whether the models are stored, for the caller too."""
        found = [await self._models.get(name) for name in models]
        return all(model is not None and self._models.may_access(model, caller) for model in found)


class SplitPipelineDiscovery:
    """Answers requests for pipelines."""

    def __init__(self, discovery: SplitDiscovery, management: SplitPipelineManagement) -> None:
        self._discovery = discovery
        self._management = management

    async def discover(self, caller: Caller, body: Wire) -> dict[str, Any]:
        """The SplitOpPipelineDiscResp: the pipelines that there are, else one that was made; and the nodes.

        Raises:
            InvalidRequest: a filter makes no sense.
            NotFound: there is none, none can be made, and there are no nodes (cause SPLIT_OP_PIPELINE_NOT_FOUND).
        """
        filters = body["discFilters"]
        check_filters(filters)
        nodes = await self._discovery.nodes(filters)
        found = await self._discovery.pipelines(caller, filters) or await self._made(caller, body, nodes)
        profiles = [profile_of(one, (), whole=caller.subject in one.parties) for one in found]
        addresses = list(dict.fromkeys(node.address for node in nodes))
        if not profiles and not addresses:
            raise NotFound("no pipeline and no node meets the filters", cause="SPLIT_OP_PIPELINE_NOT_FOUND")
        answer = {"splitOpProfiles": profiles, "discoveredNodes": addresses}
        return {name: some for name, some in answer.items() if some}

    async def _made(self, caller: Caller, body: Wire, nodes: Sequence[Node]) -> list[Pipeline]:
        """The pipeline that could be made of these nodes, if one could."""
        filters = body["discFilters"]
        models = {stage["mlModelId"] for stage in filters["stageInfo"]}
        stages = make_stages(filters, nodes)
        if not stages or not await self._discovery.may_have(caller, models):
            return []
        wish = Wish(
            requestor=caller.subject,
            notif_uri=body["notifUri"],
            stages=stages,
            usage=filters.get("usageInfo", {}),
            target={},
            extension={},
            pointer=_STAGES,
        )
        return [await self._management.make(caller, wish)]


def stages_of(pipelines: Iterable[Pipeline]) -> list[Wire]:
    """All stages of the pipelines."""
    return [stage for pipeline in pipelines for stage in pipeline.stages]

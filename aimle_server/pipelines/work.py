"""One pipeline at work in this process: it is started, looked after, and what runs is written for all to see."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from aimle_server.pipelines.parts import PipelineParts, part_id
from aimle_server.procedures.split_pipelines import own_watch
from aimle_server.procedures.split_stages import missing, named
from aimle_server.split.aim import Aim
from aimle_server.split.cutting import CuttableModel
from aimle_server.split.deployment import Deployment, Measurement
from aimle_server.split.execution import PipelineRunner
from aimle_server.split.joining import StageModel, join
from aimle_server.split.nodes import LoadedStage, NodeClient, NodeError
from aimle_server.split.planner import NoPlan, Objective
from aimle_server.split.reading import InvalidOnnx
from aimle_server.split.survey import Profiles
from ml_repository.artifacts import Artifacts
from ml_repository.model_record import StoredModel
from ml_repository.models import Models
from ml_repository.split_nodes import SplitNodes
from ml_repository.split_pipelines import Pipeline, SplitPipelines
from sbi.clock import NEVER, Clock
from sbi.errors import AimleError, Conflict, Unavailable
from sbi.outbound import Outbound

_log = logging.getLogger("aimle.split")

RETRY = timedelta(minutes=1)
"""Until it is tried again to run what could not be run."""


@dataclass(frozen=True)
class Tools:
    """What all pipelines at work share.

    Attributes:
        happened: has those who watch pipelines looked after.
    """

    pipelines: SplitPipelines
    nodes: SplitNodes
    models: Models
    artifacts: Artifacts
    parts: PipelineParts
    outbound: Outbound
    clock: Clock
    profiles: Profiles
    happened: Callable[[], None]


class Work:
    """A pipeline at work, from the moment it is made until `stop`.

    Attributes:
        pipeline: as it was then.
        ready: done when it runs, or with an AimleError when it cannot.
    """

    def __init__(self, tools: Tools, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._tools = tools
        self._runner: PipelineRunner | None = None
        self._leaving = False
        self._ended: datetime | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def to_be_repeated(self) -> bool:
        """Whether it could not be run, some time ago."""
        return self._ended is not None and self._tools.clock.now() - self._ended > RETRY

    async def stop(self) -> None:
        """End it, and its stages at the nodes."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def leave(self) -> None:
        """Look after it no more; its stages go on, until another process has put others in their place."""
        self._leaving = True
        await self.stop()

    async def follow_registrations(self) -> None:
        """Use the nodes that are registered now, and no others."""
        if self._runner is not None:
            self._runner.fleet.offer(await self._clients())

    async def _run(self) -> None:
        try:
            await self._work()
        except (NoPlan, NodeError, InvalidOnnx) as error:
            reason = f"these nodes cannot run the model: {error}"
            await self._failed(Conflict(reason, cause="SPLIT_OP_NOT_POSSIBLE"))
        except AimleError as error:
            await self._failed(error)
        except Exception:
            _log.exception("the pipeline %s does not run", self.pipeline.id)
            await self._failed(Unavailable("the pipeline does not run now"))
        finally:
            self.ready.cancel()

    async def _failed(self, error: AimleError) -> None:
        _log.warning("the pipeline %s does not run: %s", self.pipeline.id, error)
        self._ended = self._tools.clock.now()
        if not self.ready.done():
            self.ready.set_exception(error)
        await self._write(None, fault=str(error))

    async def _work(self) -> None:
        runner = self._runner = await self._made()
        try:
            await self._write(await runner.start())
            await self._tidy()
            self.ready.set_result(None)
            await runner.watch()
        finally:
            if not self._leaving:
                await runner.stop()

    async def _made(self) -> PipelineRunner:
        pipeline, tools = self.pipeline, self._tools
        models = await self._models()
        execution = pipeline.execution or {}
        aim = Aim(
            objective=Objective(execution["objective"]),
            batch=execution["batch"],
            origin=execution.get("origin"),
            workers=[named([stage]) for stage in pipeline.stages],
            in_order=execution.get("inOrder", False),
            most_cuts=execution.get("mostCuts"),
        )
        return PipelineRunner(
            await self._clients(),
            await self._joined(models),
            lambda part: tools.parts.keep(pipeline, models, part),
            aim,
            tell=self._tell,
            profiles=tools.profiles,
            clock=tools.clock,
        )

    async def _models(self) -> list[StoredModel]:
        """The model of each stage."""
        found = [await self._tools.models.get(stage["mlModelId"]) for stage in self.pipeline.stages]
        models = [model for model in found if model is not None]
        if len(models) < len(found):
            raise _gone()
        return models

    async def _joined(self, models: Sequence[StoredModel]) -> CuttableModel:
        """One model that does what those of the stages do."""
        stages = zip(self.pipeline.stages, models, strict=True)
        parts = [StageModel(stage["stageId"], await self._content(model)) for stage, model in stages]
        return await asyncio.to_thread(join, parts)

    async def _content(self, model: StoredModel) -> bytes:
        artifact = await self._tools.artifacts.find(model.bytes.artifact_id) if model.bytes else None
        if artifact is None:
            raise _gone()
        return b"".join([piece async for piece in self._tools.artifacts.read(artifact)])

    async def _clients(self) -> dict[str, NodeClient]:
        """The nodes of the pipeline that are registered now, and the one where inputs come from, by their address.

        One that several stages name is registered for the models of all of them.
        """
        pipeline, origin = self.pipeline, (self.pipeline.execution or {}).get("origin")
        workers = named(pipeline.stages)
        nodes = await self._tools.nodes.at([*workers, origin or workers[0]], self._tools.clock.now())
        unfit = missing(pipeline, nodes)
        return {
            node.address: NodeClient(self._tools.outbound, node.runtime)
            for node in nodes
            if node.runtime and node.address not in unfit
        }

    async def _tell(self, deployment: Deployment | None) -> None:
        await self._write(deployment, "" if deployment else "its nodes cannot run it now")

    async def _write(self, deployment: Deployment | None, fault: str = "") -> None:
        """Write what runs now, unless the pipeline has become another one meanwhile."""
        tools, running = self._tools, _wire(self.pipeline, deployment) if deployment else None
        while (found := await tools.pipelines.get(self.pipeline.id)) is not None:
            same = (found.deployment, found.fault) == (running, fault)
            if same or found.ended != NEVER or found.revision != self.pipeline.revision:
                return
            changed = replace(
                found, deployment=running, fault=fault, version=found.version + 1, changed=tools.clock.now()
            )
            if await tools.pipelines.replace(changed, own_watch(changed).body, ()):
                tools.happened()
                return

    async def _tidy(self) -> None:
        """End the stages of a process that has died, and what there was before the pipeline was changed."""
        for stage in (self.pipeline.deployment or {}).get("stages", ()):
            client = NodeClient(self._tools.outbound, stage["node"])
            try:
                await client.unload(LoadedStage(stage["stage"], "", ""))
            except NodeError as error:
                _log.info("a former stage could not be ended: %s", error)
        await self._tools.parts.remove(self.pipeline, former=True)


def _gone() -> Conflict:
    return Conflict("a model of the pipeline is gone", cause="ML_MODEL_NOT_FOUND")


def _wire(pipeline: Pipeline, deployment: Deployment) -> dict[str, Any]:
    """What is stored of a deployment."""
    stages = deployment.stages
    return {
        "head": deployment.head,
        "tail": deployment.tail,
        "parts": [
            {
                "node": one.stage.node,
                "mlModelId": part_id(pipeline, one.stage.first_cut, one.stage.last_cut),
                "gives": list(one.gives),
            }
            for one in stages
        ],
        "ends": _ends(deployment, len(pipeline.stages)),
        "stages": [{"node": _root(one.loaded), "stage": one.loaded.id} for one in stages],
        "measured": _measured(deployment.measurement) if deployment.measurement else _predicted(deployment),
    }


def _ends(deployment: Deployment, count: int) -> list[dict[str, str]]:
    """Where each of so many stages of the pipeline begins and ends: at the parts with its first and its last nodes."""
    parts = [
        [one.loaded.input_uri for one in deployment.stages if number in one.model_stages]
        for number in range(count)
    ]
    ends = [{"head": of_stage[0], "tail": of_stage[-1]} for of_stage in parts]
    return [*ends[:-1], {**ends[-1], "tail": deployment.tail}]


def _root(loaded: LoadedStage) -> str:
    """The apiRoot of the node that a stage is at."""
    return loaded.input_uri.partition("/aimle-split-node/")[0]


def _predicted(deployment: Deployment) -> dict[str, float]:
    plan = deployment.plan
    return {"predictedLatency": plan.latency_s, "predictedThroughput": plan.throughput_per_s}


def _measured(found: Measurement) -> dict[str, float]:
    return {
        "predictedLatency": found.predicted_latency_s,
        "latency": found.latency_s,
        "latencyError": found.latency_error,
        "predictedThroughput": found.predicted_throughput_per_s,
        "throughput": found.throughput_per_s,
        "throughputError": found.throughput_error,
    }

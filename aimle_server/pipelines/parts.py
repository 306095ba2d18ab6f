"""The parts of a pipeline's models in the ML repository: models themselves, whose lineage names the whole one."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimle_server.split.deployment import Part
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_record import ONNX, StoredModel, artifact_uri
from ml_repository.models import Models
from ml_repository.split_pipelines import Pipeline
from sbi.errors import Conflict


class PipelineParts:
    """Keeps parts as long as their pipeline runs; they are its owner's, and its nodes may fetch them.

    Args:
        api_root: of this server, where they are fetched.
    """

    def __init__(self, models: Models, artifacts: ModelArtifacts, api_root: str) -> None:
        self._models = models
        self._artifacts = artifacts
        self._api_root = api_root

    async def keep(self, pipeline: Pipeline, models: Sequence[StoredModel], part: Part) -> str:
        """Store a part; its URL.

        Args:
            models: of all stages of the pipeline, in their order.

        Raises:
            Conflict: the licences of the models that something of is in the part exclude each other.
        """
        model_id = part_id(pipeline, part.first_cut, part.last_cut)
        model = await self._models.get(model_id)
        if model is None:
            model = await self._artifacts.add(pipeline.owner, _info(model_id, pipeline, models, part))
        if model.bytes is None or model.bytes.sha256 != part.sha256:
            with tempfile.TemporaryDirectory(prefix="aimle-") as folder:
                path = Path(folder, "part.onnx")
                await asyncio.to_thread(path.write_bytes, part.content)
                await self._artifacts.put(model, path, part.sha256)
        return artifact_uri(self._api_root, model_id)

    async def remove(self, pipeline: Pipeline, *, former: bool = False) -> None:
        """Delete the parts; `former`: only those of what the pipeline was before it was changed."""
        for model in await self._models.of_source(pipeline.id):
            if not (former and model.id.startswith(_prefix(pipeline))):
                await self._models.remove(model)


def part_id(pipeline: Pipeline, first_cut: int, last_cut: int) -> str:
    """The mlModelId of a part, between these cuts."""
    return f"{_prefix(pipeline)}{first_cut}-{last_cut}"


def _prefix(pipeline: Pipeline) -> str:
    return f"{pipeline.id}-{pipeline.revision}."


def _info(model_id: str, pipeline: Pipeline, models: Sequence[StoredModel], part: Part) -> dict[str, Any]:
    """The MLModel of a part: its source is the pipeline, its base the model of its first stage."""
    wholes = [models[number] for number in part.stages]
    owners = set.intersection(*(set(pipeline.stage_owners[number]) for number in part.stages))
    base = wholes[0]
    inherited = {name: base.info[name] for name in ("valServiceIds", "domain") if name in base.info}
    own = {
        "mlModelId": model_id,
        "mlModelSrcId": pipeline.id,
        "interopInfo": ONNX,
        "phaseInfo": {"phase": "TRAINED", "trainingInfo": {"baseModelId": base.id}},
        "storeDiscReqs": {"accessReqs": {"accessReq": "RESTRICTED", "valServerIds": sorted(owners)}},
        "usageReqs": {"usages": ["INFERENCE"]},
    }
    return inherited | _licence(wholes) | own


def _licence(wholes: Sequence[StoredModel]) -> dict[str, Any]:
    """The vendors that may have all the models."""
    each = [set(whole.info["vendors"]) for whole in wholes if whole.info.get("vendors")]
    if not each:
        return {}
    common = set.intersection(*each)
    if not common:
        names = ", ".join(whole.id for whole in wholes)
        raise Conflict(f"no vendor may have all of these models: {names}", cause="SPLIT_OP_NOT_POSSIBLE")
    return {"vendors": sorted(common)}

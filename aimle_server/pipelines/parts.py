"""The parts of a pipeline's model in the ML repository: models themselves, whose lineage names the whole one."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from aimle_server.split.deployment import Part
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_record import ONNX, StoredModel, artifact_uri
from ml_repository.models import Models
from ml_repository.split_pipelines import Pipeline
from sbi.auth import Caller


class PipelineParts:
    """Keeps parts as long as their pipeline runs; they are its owner's, and its nodes may fetch them.

    Args:
        api_root: of this server, where they are fetched.
    """

    def __init__(self, models: Models, artifacts: ModelArtifacts, api_root: str) -> None:
        self._models = models
        self._artifacts = artifacts
        self._api_root = api_root

    async def keep(self, pipeline: Pipeline, whole: StoredModel, part: Part) -> str:
        """Store a part; its URL."""
        model_id = part_id(pipeline, part.first_cut, part.last_cut)
        model = await self._models.get(model_id)
        if model is None:
            model = await self._artifacts.add(pipeline.owner, _info(model_id, pipeline, whole))
        if model.bytes is None or model.bytes.sha256 != part.sha256:
            with tempfile.TemporaryDirectory(prefix="aimle-") as folder:
                path = Path(folder, "part.onnx")
                await asyncio.to_thread(path.write_bytes, part.content)
                await self._artifacts.put(model, path, part.sha256)
        return artifact_uri(self._api_root, model_id)

    async def remove(self, pipeline: Pipeline, *, former: bool = False) -> None:
        """Delete the parts; `former`: only those of what the pipeline was before it was changed."""
        [whole] = pipeline.models
        derived = {"phaseInfo": {"trainingInfo": {"baseModelId": whole}}}
        for model in await self._models.candidates(Caller(pipeline.owner, frozenset()), derived):
            kept = former and model.id.startswith(_prefix(pipeline))
            if model.id.startswith(f"{whole}.{pipeline.id}-") and not kept:
                await self._models.remove(model)


def part_id(pipeline: Pipeline, first_cut: int, last_cut: int) -> str:
    """The mlModelId of a part, between these cuts."""
    return f"{_prefix(pipeline)}{first_cut}-{last_cut}"


def _prefix(pipeline: Pipeline) -> str:
    return f"{pipeline.models[0]}.{pipeline.id}-{pipeline.revision}."


def _info(model_id: str, pipeline: Pipeline, whole: StoredModel) -> dict[str, Any]:
    """The MLModel of a part; a licence of the whole model counts for it too."""
    nodes = {"accessReq": "RESTRICTED", "valServerIds": list(pipeline.node_owners)}
    inherited = {
        name: whole.info[name] for name in ("vendors", "valServiceIds", "domain") if name in whole.info
    }
    return inherited | {
        "mlModelId": model_id,
        "mlModelSrcId": whole.id,
        "interopInfo": ONNX,
        "phaseInfo": {"phase": "TRAINED", "trainingInfo": {"baseModelId": whole.id}},
        "storeDiscReqs": {"accessReqs": nodes},
        "usageReqs": {"usages": ["INFERENCE"]},
    }

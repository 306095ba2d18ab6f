"""What a training leaves behind: a model in the ML repository, and its clients' records (TS 23.482 8.11.2.1)."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aimle_server.hfl.round_files import RoundFiles, digest_of
from aimle_server.hfl.training import Training
from ml_repository.database import Session
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.registrations import Registrations


class Results:
    """Stores results, and removes what only the running training needed."""

    def __init__(self, files: RoundFiles, artifacts: ModelArtifacts, registrations: Registrations) -> None:
        self._files = files
        self._artifacts = artifacts
        self._registrations = registrations

    async def store(self, training: Training, number: int) -> None:
        """Make the model of round `number` the training's output; doing it twice changes nothing."""
        path = await self._files.fetch(training, number + 1)
        await self._artifacts.complete(
            training.output_model_id,
            path,
            (await asyncio.to_thread(digest_of, path)).hex,
            observed_perf=observed_perf(training.metrics_of(number)),
            training_info={
                "dataSources": ",".join(training.request["datasetId"]),
                "baseModelId": training.model_id,
            },
        )

    async def clean_up(self, training: Training) -> None:
        """After the end: no files, no place for a model that was not made; doing it twice changes nothing."""
        if training.finish is None:
            await self._artifacts.abandon(training.output_model_id)
        await self._files.remove(training)

    async def record(self, training: Training, session: Session) -> None:
        """Add the training to its clients' records; whoever does it twice counts it twice."""
        await self._registrations.record_participation(participation(training), session)


def observed_perf(metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """Metrics as MLModelPerf: precise figures as JSON text, since its one number is a whole percentage."""
    return {"appSpecPerfData": json.dumps(dict(metrics), sort_keys=True)} if metrics else None


def participation(training: Training) -> dict[str, tuple[int, int]]:
    """Per client: rounds it was asked for, and rounds it dropped out of."""
    dropped = Counter(client for record in training.history for client in record.dropped)
    reported = Counter(client for record in training.history for client in record.participants)
    clients = dropped.keys() | reported.keys()
    return {client: (dropped[client] + reported[client], dropped[client]) for client in clients}

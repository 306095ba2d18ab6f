"""How a training stands: what the standard's API has no operation for (our extension)."""

from collections.abc import Mapping
from typing import Any

from aimle_server.hfl.training import Move, Training
from ml_repository.trainings import Trainings
from sbi.auth import Caller
from sbi.clock import to_wire
from sbi.errors import NotFound


class TrainingStatusReader:
    """Reads the trainings of their owners, as last committed."""

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings

    async def get(self, caller: Caller, training_id: str) -> dict[str, Any]:
        """The TrainingStatus of the caller's training.

        Raises:
            NotFound: there is none, or it is not the caller's.
        """
        document = await self._trainings.find(training_id, caller.subject)
        if document is None:
            raise NotFound("there is no such training", cause="TRAINING_NOT_FOUND")
        return status_of(document)

    async def find(self, caller: Caller) -> list[dict[str, Any]]:
        """The TrainingStatus of each of the caller's latest trainings, newest first."""
        return [status_of(document) for document in await self._trainings.of_owner(caller.subject)]


def status_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stored training as TrainingStatus."""
    training = Training.from_document(document)
    status: dict[str, Any] = {
        "trainingId": training.training_id,
        "state": training.state.value,
        "round": training.committed,
        "modelId": training.model_id,
        "outputModelId": training.output_model_id,
        "participants": _participants(training),
        "history": [
            {
                "round": record.round,
                "participants": len(record.participants),
                "samples": record.samples,
                "metrics": dict(record.metrics),
                "startedAt": to_wire(record.started_at),
                "committedAt": to_wire(record.committed_at),
            }
            for record in training.history
        ],
    }
    if training.moves:
        status["moves"] = [_move(move) for move in training.moves]
    return status | ({"reason": training.reason} if training.reason else {})


def _move(move: Move) -> dict[str, Any]:
    told = {
        "round": move.round,
        "sourceId": move.source,
        "targetId": move.target,
        "mode": move.mode,
        "iterations": move.iterations,
        "at": to_wire(move.at),
        "transferId": move.transfer_id,
    }
    return told | ({"reason": move.reason} if move.reason else {})


def _participants(training: Training) -> list[dict[str, Any]]:
    """Who takes part; before the first selection, the members that the request names."""
    if not training.participants and not training.terminal:
        return [{"clientId": client_id, "state": "INVITED"} for client_id in training.members]
    return [
        {"clientId": p.client_id, "state": p.state.value, "samples": p.samples}
        | ({"reason": p.reason} if p.reason else {})
        for p in training.participants.values()
    ]

"""A model as the ML repository holds it: its profile (TS 23.482 Table 8.11.4.2-2) and what is kept beside."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote

IN_TRAINING = frozenset({"IN_TRAINING", "IN_RETRAINING"})
TRAINED = frozenset({"TRAINED", "DEPLOYED"})

ARTIFACTS_PATH = "/aimle-artifacts/v1"

ONNX = "ONNX"
"""The interopInfo of a model whose file is an ONNX model."""

_LONGEST = timedelta(days=36_500)


@dataclass(frozen=True)
class ModelBytes:
    """The model's file: where `Artifacts` keeps it, its size in bytes, its hex SHA-256."""

    artifact_id: str
    size: int
    sha256: str


@dataclass(frozen=True)
class StoredModel:
    """One model of the repository.

    Attributes:
        id: its mlModelId.
        owner: the subject that stored it.
        storage_id: the ML Models Storage it belongs to.
        stored: when its owner last stored its profile; `duration` and `timePeriod` count from here.
        expires: when model and bytes are gone; None: never.
        bytes: its file, once there is one here.
        profile: MLModelProfile in wire shape; without mlModelUri where the bytes are to be found here.
    """

    id: str
    owner: str
    storage_id: str
    stored: datetime
    expires: datetime | None
    bytes: ModelBytes | None
    profile: Mapping[str, Any]

    @cached_property
    def info(self) -> dict[str, Any]:
        """MLModel in wire shape: with the true size, and with results only where the phase has any."""
        info = dict(self.profile["mlModelInfo"])
        if self.bytes is not None:
            info["mlModelSize"] = self.bytes.size
        if "phaseInfo" in info and self.phase not in TRAINED:
            # TS 29.482 6.2.1.6.2.5; kept in the document, a retraining that fails leaves the model as it was
            hidden = {"observedPerf", "trainingInfo"}
            info["phaseInfo"] = {name: part for name, part in info["phaseInfo"].items() if name not in hidden}
        return info

    @property
    def profile_id(self) -> str:
        """Its mlModelProfId, never used again for another model."""
        return str(self.profile["mlModelProfId"])

    @property
    def onnx(self) -> bool:
        """Whether its file is an ONNX model, as its interopInfo says; else it is a safetensors file."""
        return str(self.profile["mlModelInfo"].get("interopInfo", "")).upper() == ONNX

    @property
    def phase(self) -> str | None:
        """The MLModelPhase, where one is known."""
        phase: str | None = self.profile["mlModelInfo"].get("phaseInfo", {}).get("phase")
        return phase

    @property
    def in_training(self) -> bool:
        """Whether it is being trained or retrained and so not to be had (TS 23.482 8.11.3)."""
        return self.phase in IN_TRAINING

    @property
    def hosted(self) -> bool:
        """Whether its bytes belong here; otherwise mlModelUri names another place."""
        return "mlModelUri" not in self.profile

    @property
    def retrievable(self) -> bool:
        """Whether somebody who may have it can download it now."""
        return not self.in_training and not (self.hosted and self.bytes is None)

    def endpoint(self, api_root: str) -> dict[str, Any]:
        """EndPoint in wire shape where the bytes are, or are to be put."""
        elsewhere: dict[str, Any] | None = self.profile.get("mlModelUri")
        return elsewhere or {"uri": artifact_uri(api_root, self.id)}

    def wire(self, api_root: str) -> dict[str, Any]:
        """MLModelProfile in wire shape, as its owner sees it."""
        return {**self.profile, "mlModelInfo": self.info, "mlModelUri": self.endpoint(api_root)}


def artifact_uri(api_root: str, model_id: str) -> str:
    """Where the bytes of this model are put and got: `<apiRoot>/aimle-artifacts/v1/models/<mlModelId>`."""
    return f"{api_root}{ARTIFACTS_PATH}/models/{quote(model_id, safe='')}"


def moment_after(start: datetime, seconds: int) -> datetime:
    """`seconds` after `start`; a DurationSec beyond a hundred years is a hundred years."""
    return start + min(timedelta(seconds=min(seconds, 10**10)), _LONGEST)

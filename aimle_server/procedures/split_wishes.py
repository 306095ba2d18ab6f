"""What a split operation pipeline is asked to be, by a request to make one (TS 23.482 8.14.2.3) or to change it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aimle_server.procedures.split_stages import addresses_of, named, profile_of
from ml_repository.model_record import StoredModel
from ml_repository.split_nodes import Node
from ml_repository.split_pipelines import Pipeline
from sbi.body import load
from sbi.errors import InvalidRequest
from schemas.base import merge_patch
from schemas.split_pipeline import SplitOpPipelinePatch

Wire = Mapping[str, Any]

STAGES = "/splitOpRequirements/stageInfo"
PROFILE = "/splitOpPipelineInfo/splitOpProfile"

_OF_EXECUTION = {"objective", "batch", "origin", "inOrder", "mostCuts"}

_PATCH = SplitOpPipelinePatch()


@dataclass(frozen=True)
class Wish:
    """What a pipeline is to be; the attributes are Pipeline's, and

    Attributes:
        extension: RequirementsExtension: what is asked for beside the standard.
        pointer: where the stages are in the body that asks.
        run_here: whether it is asked for with what only a pipeline has that this server runs.
    """

    requestor: str
    notif_uri: str
    stages: Sequence[Wire]
    usage: Wire
    target: Wire
    extension: Wire
    pointer: str
    run_here: bool = False

    @classmethod
    def of(cls, body: Wire) -> Self:
        """What a SplitOpPipelineCreateReq asks for."""
        wanted = body["splitOpRequirements"]
        return cls(
            requestor=body["requestorId"],
            notif_uri=body["notifUri"],
            stages=wanted["stageInfo"],
            usage=wanted.get("usageInfo", {}),
            target=wanted.get("notificationTarget", {}),
            extension=wanted.get("aimle", {}),
            pointer=STAGES,
            run_here=not _OF_EXECUTION.isdisjoint(wanted.get("aimle", {})),
        )

    @classmethod
    def changed(cls, pipeline: Pipeline, patch: Wire) -> Self:
        """What a pipeline is to be after a SplitOpPipelinePatch.

        Raises:
            InvalidRequest: the patch is of another pipeline, or makes none of it.
        """
        if patch["splitOpPipelineId"] != pipeline.id:
            raise InvalidRequest.of("/splitOpPipelineId", "is not the pipeline of this URI")
        merged = load(_PATCH, merge_patch(_resource(pipeline), patch))
        profile = merged["splitOpPipelineInfo"].get("splitOpProfile")
        if profile is None:
            raise InvalidRequest.of(PROFILE, "cannot be removed")
        _check(profile, pipeline)
        shown = profile.get("aimle", {})
        return cls(
            requestor=pipeline.requestor,
            notif_uri=merged["notifUri"],
            stages=profile["stageInfo"],
            usage=profile.get("usageInfo", {}),
            target=shown.get("notificationTarget", {}),
            extension={**(pipeline.execution or {}), "multiClient": shown.get("multiClient", False)},
            pointer=f"{PROFILE}/stageInfo",
        )

    @property
    def origin(self) -> str:
        """Address of the node where inputs come from; empty: it is not said."""
        address: str = self.extension.get("origin", "")
        return address.rstrip("/")

    @property
    def nodes(self) -> list[str]:
        """Addresses of the nodes that are to run it."""
        return named(self.stages)

    def fields(self) -> dict[str, Any]:
        """Those that are Pipeline's own."""
        same = ("requestor", "notif_uri", "stages", "usage", "target")
        multi_client = self.extension.get("multiClient", False)
        return {name: getattr(self, name) for name in same} | {"multi_client": multi_client}

    def execution(self, nodes: Sequence[Node], models: Sequence[StoredModel]) -> dict[str, Any] | None:
        """How this server runs it; None: its nodes have to.

        It runs ONNX models whose files are here, on nodes that run what they are given.

        Args:
            nodes: those that are registered, of its own and where inputs come from.

        Raises:
            InvalidRequest: it was asked to and cannot, or inputs are to come from no node.
        """
        endpoints = [endpoint for stage in self.stages for endpoint in stage["nodeOrder"]]
        here = all(model.onnx and model.bytes for model in models)
        if not here or not all(self._ours(endpoint, nodes) for endpoint in endpoints):
            if self.run_here:
                raise InvalidRequest.of(self.pointer, "is not what this server runs")
            return None
        if self.origin and not any(node.address == self.origin and node.runtime for node in nodes):
            raise InvalidRequest.of("/splitOpRequirements/aimle/origin", "is no registered node")
        asked = {name: self.extension[name] for name in _OF_EXECUTION & self.extension.keys()}
        where = {"origin": self.origin} if self.origin else {}
        return {"objective": "LATENCY", "batch": 1} | asked | where

    def _ours(self, endpoint: Wire, nodes: Sequence[Node]) -> bool:
        addresses = addresses_of(endpoint)
        return any(node.address in addresses and node.runtime for node in nodes)


def _resource(pipeline: Pipeline) -> dict[str, Any]:
    """What a patch changes."""
    profile = profile_of(pipeline, (), whole=True)
    return {"notifUri": pipeline.notif_uri, "splitOpPipelineInfo": {"splitOpProfile": profile}}


def _check(profile: Wire, pipeline: Pipeline) -> None:
    """Refuse what the stages and the URI say otherwise."""
    stages = profile["stageInfo"]
    for name, expected in (
        ("splitOpPipelineId", pipeline.id),
        ("headEp", stages[0]["headEp"]),
        ("tailEp", stages[-1]["tailEp"]),
    ):
        if profile[name] != expected:
            raise InvalidRequest.of(f"{PROFILE}/{name}", "is not that of the pipeline's stages or URI")

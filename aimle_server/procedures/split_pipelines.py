"""Split operation pipelines (TS 23.482 8.14.2.3, 8.14.2.6, 8.14.2.7): made, changed and deleted by their owner.

Every node with a URI is told there of its part: that it is in, that the pipeline is another one, that it is out.
The requestor's `notifUri` is told what becomes of the pipeline, as by a subscription to it (8.14.2.5).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from aimle_server.procedures.split_stages import (
    DELETED,
    PIPELINE_INFO,
    faults,
    named,
    notification,
    parts,
    profile_of,
)
from ml_repository.models import Models
from ml_repository.outbox import Message
from ml_repository.split_nodes import Node, SplitNodes
from ml_repository.split_pipelines import Pipeline, SplitPipelines
from ml_repository.subscriptions import Subscription
from sbi.auth import Caller
from sbi.body import load
from sbi.clock import NEVER, Clock
from sbi.errors import Conflict, InvalidRequest, NotFound
from schemas.base import merge_patch
from schemas.split_pipeline import SplitOpPipelinePatch

Wire = Mapping[str, Any]

OWN_WATCH = "split_pipeline"
"""The kind of the subscription that a pipeline's requestor has to it, which has no URI of its own."""

_ATTEMPTS = 5
"""Times that a change is tried while others change the pipeline too."""

_PATCH = SplitOpPipelinePatch()
_STAGES = "/splitOpRequirements/stageInfo"
_PROFILE = "/splitOpPipelineInfo/splitOpProfile"


@dataclass(frozen=True)
class Wish:
    """What a pipeline is to be; the attributes are Pipeline's."""

    requestor: str
    notif_uri: str
    stages: Sequence[Wire]
    usage: Wire
    target: Wire
    multi_client: bool

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
            multi_client=wanted.get("aimle", {}).get("multiClient", False),
        )


class SplitPipelineManagement:
    """The pipelines, as those see them who had them made: nobody else does by their URI.

    Args:
        new_id: makes pipeline ids that nobody guesses.
        check_uri: raises ValueError for an address that must not be called.
        happened: has those who watch pipelines looked after, and nodes told.
    """

    def __init__(
        self,
        pipelines: SplitPipelines,
        nodes: SplitNodes,
        models: Models,
        clock: Clock,
        new_id: Callable[[], str],
        check_uri: Callable[[str], None],
        happened: Callable[[], None],
    ) -> None:
        self._pipelines = pipelines
        self._nodes = nodes
        self._models = models
        self._clock = clock
        self._new_id = new_id
        self._check_uri = check_uri
        self._happened = happened

    async def create(self, caller: Caller, body: Wire) -> tuple[str, dict[str, Any]]:
        """The id of a new pipeline, and the SplitOpPipelineCreateResp.

        Raises:
            InvalidRequest: its stages cannot be run; invalid_params says which and why.
        """
        pipeline = await self.make(caller, Wish.of(body), _STAGES)
        return pipeline.id, {"splitOpProfile": profile_of(pipeline, (), whole=True)}

    async def make(self, caller: Caller, wish: Wish, pointer: str) -> Pipeline:
        """A new pipeline; `pointer` is where its stages are in the caller's body.

        Raises:
            InvalidRequest: as for `create`.
        """
        now = self._clock.now()
        owners = await self._owners_of_nodes(caller, wish, pointer, now)
        pipeline = Pipeline(
            id=self._new_id(),
            owner=caller.subject,
            **vars(wish),
            node_owners=owners,
            version=1,
            created=now,
            changed=now,
        )
        await self._pipelines.add(pipeline, _own_watch(pipeline), _messages(None, pipeline))
        self._happened()
        return pipeline

    async def replace(self, caller: Caller, pipeline_id: str, body: Wire) -> dict[str, Any]:
        """The SplitOpPipelineCreateResp after other requirements.

        Raises:
            NotFound: the caller has no such pipeline; InvalidRequest: as for `create`;
            Conflict: it keeps changing meanwhile.
        """
        return await self._change(caller, pipeline_id, lambda _: Wish.of(body), _STAGES)

    async def modify(self, caller: Caller, pipeline_id: str, patch: Wire) -> dict[str, Any]:
        """The SplitOpPipelineCreateResp after a JSON merge patch of its profile.

        Raises:
            NotFound, InvalidRequest, Conflict: as for `replace`.
        """
        return await self._change(
            caller, pipeline_id, lambda pipeline: _patched(pipeline, patch), f"{_PROFILE}/stageInfo"
        )

    async def delete(self, caller: Caller, pipeline_id: str) -> None:
        """End it.

        Raises:
            NotFound: the caller has no such pipeline; Conflict: it keeps changing meanwhile.
        """
        for _ in range(_ATTEMPTS):
            pipeline, now = await self._own(caller, pipeline_id), self._clock.now()
            if await self._pipelines.end(pipeline, _messages(pipeline, None), now):
                self._happened()
                return
        raise _changing()

    async def _change(
        self, caller: Caller, pipeline_id: str, edit: Callable[[Pipeline], Wish], pointer: str
    ) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            now, before = self._clock.now(), await self._own(caller, pipeline_id)
            wish = edit(before)
            owners = await self._owners_of_nodes(caller, wish, pointer, now)
            version = before.version + 1
            changed = replace(before, **vars(wish), node_owners=owners, version=version, changed=now)
            watch = _own_watch(changed).body
            if await self._pipelines.replace(changed, watch, _messages(before, changed)):
                self._happened()
                return {"splitOpProfile": profile_of(changed, (), whole=True)}
        raise _changing()

    async def _own(self, caller: Caller, pipeline_id: str) -> Pipeline:
        found = await self._pipelines.get(pipeline_id)
        if found is None or found.owner != caller.subject or found.ended != NEVER:
            raise NotFound(f"no split operation pipeline {pipeline_id}")
        return found

    async def _owners_of_nodes(self, caller: Caller, wish: Wish, pointer: str, now: datetime) -> list[str]:
        """Who registered the nodes; raises where the wish cannot be fulfilled."""
        try:
            self._check_uri(wish.notif_uri)
        except ValueError as error:
            raise InvalidRequest.of("/notifUri", str(error)) from error
        nodes = await self._nodes.at(named(wish.stages), now)
        stored = await self._stored(caller, wish.stages)
        if wrong := list(faults(wish.stages, wish.usage, nodes, stored, pointer)):
            raise InvalidRequest.naming(wrong)
        return _owners(nodes)

    async def _stored(self, caller: Caller, stages: Sequence[Wire]) -> list[str]:
        """The models of the stages that the caller may have."""
        names = dict.fromkeys(stage["mlModelId"] for stage in stages)
        found = [await self._models.get(name) for name in names]
        return [model.id for model in found if model and self._models.may_access(model, caller)]


def _owners(nodes: Sequence[Node]) -> list[str]:
    return sorted({node.owner for node in nodes})


def _patched(pipeline: Pipeline, patch: Wire) -> Wish:
    """What a pipeline is to be after a SplitOpPipelinePatch."""
    if patch["splitOpPipelineId"] != pipeline.id:
        raise InvalidRequest.of("/splitOpPipelineId", "is not the pipeline of this URI")
    before = profile_of(pipeline, (), whole=True)
    merged = load(
        _PATCH,
        merge_patch(
            {"notifUri": pipeline.notif_uri, "splitOpPipelineInfo": {"splitOpProfile": before}}, patch
        ),
    )
    profile = merged["splitOpPipelineInfo"].get("splitOpProfile")
    if profile is None:
        raise InvalidRequest.of(_PROFILE, "cannot be removed")
    stages = profile["stageInfo"]
    for name, expected in (
        ("splitOpPipelineId", pipeline.id),
        ("headEp", stages[0]["headEp"]),
        ("tailEp", stages[-1]["tailEp"]),
    ):
        if profile[name] != expected:
            raise InvalidRequest.of(f"{_PROFILE}/{name}", "is not that of the pipeline's stages or URI")
    extension = profile.get("aimle", {})
    return Wish(
        requestor=pipeline.requestor,
        notif_uri=merged["notifUri"],
        stages=stages,
        usage=profile.get("usageInfo", {}),
        target=extension.get("notificationTarget", {}),
        multi_client=extension.get("multiClient", False),
    )


def _messages(before: Pipeline | None, after: Pipeline | None) -> list[Message]:
    """What nodes are told of a pipeline that was made, changed or ended; one that is out, of what it was in."""
    version = before.version + 1 if before else 1
    told = parts(before.stages if before else (), after.stages if after else ())
    seen = {uri: before if sub_event == DELETED else after for uri, sub_event in told.items()}
    return [
        Message(
            stream=f"split-node:{pipeline.id}:{uri}",
            sequence=version,
            target=uri,
            body=notification(profile_of(pipeline, (), whole=True), told[uri]),
        )
        for uri, pipeline in seen.items()
        if pipeline is not None
    ]


def _own_watch(pipeline: Pipeline) -> Subscription:
    body = {"splitOpPipelineId": pipeline.id, "notifUri": pipeline.notif_uri, "splitOpEventId": PIPELINE_INFO}
    told = {"id": pipeline.id, "version": pipeline.version, "missing": []}
    state = {"since": pipeline.created, "told": [told]}
    reporting = {"rule": {}, "reports": 0, "next": NEVER}
    return Subscription(pipeline.id, OWN_WATCH, pipeline.owner, body, NEVER, state, reporting)


def _changing() -> Conflict:
    return Conflict("the pipeline keeps changing")

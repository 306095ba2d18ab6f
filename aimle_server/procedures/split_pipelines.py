"""Split operation pipelines (TS 23.482 8.14.2.3, 8.14.2.6, 8.14.2.7): made, changed and deleted by their owner.

Every node with a URI is told there of its part: that it is in, that the pipeline is another one, that it is out.
Where the nodes run what this server gives them, they get that instead. The requestor's `notifUri` is told what
becomes of the pipeline, as by a subscription to it (8.14.2.5).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from aimle_server.procedures.split_stages import (
    DELETED,
    PIPELINE_INFO,
    faults,
    notification,
    owners_of,
    parts,
    profile_of,
)
from aimle_server.procedures.split_wishes import Wish
from ml_repository.model_record import StoredModel
from ml_repository.models import Models
from ml_repository.outbox import Message
from ml_repository.split_nodes import SplitNodes
from ml_repository.split_pipelines import Pipeline, SplitPipelines
from ml_repository.subscriptions import Subscription
from sbi.auth import Caller
from sbi.clock import NEVER, Clock
from sbi.errors import AimleError, Conflict, InvalidRequest, NotFound

Wire = Mapping[str, Any]

OWN_WATCH = "split_pipeline"
"""The kind of the subscription that a pipeline's requestor has to it, which has no URI of its own."""

_ATTEMPTS = 5
"""Times that a change is tried while others change the pipeline too."""


class Execution(Protocol):
    """What runs pipelines on the nodes."""

    async def begin(self, pipeline: Pipeline) -> None:
        """Return once it runs, or is still being prepared; raises Conflict where these nodes cannot run it."""

    async def end(self, pipeline: Pipeline) -> None:
        """Stop it; nothing happens if it does not run here."""


class SplitPipelineManagement:
    """The pipelines, as those see them who had them made: nobody else does by their URI.

    Args:
        execution: runs them.
        new_id: makes pipeline ids that nobody guesses.
        check_uri: raises ValueError for an address that must not be called.
        happened: has those who watch pipelines looked after, and nodes told.
    """

    def __init__(
        self,
        pipelines: SplitPipelines,
        nodes: SplitNodes,
        models: Models,
        execution: Execution,
        clock: Clock,
        new_id: Callable[[], str],
        check_uri: Callable[[str], None],
        happened: Callable[[], None],
    ) -> None:
        self._pipelines = pipelines
        self._nodes = nodes
        self._models = models
        self._execution = execution
        self._clock = clock
        self._new_id = new_id
        self._check_uri = check_uri
        self._happened = happened

    async def create(self, caller: Caller, body: Wire) -> tuple[str, dict[str, Any]]:
        """The id of a new pipeline, and the SplitOpPipelineCreateResp.

        Raises:
            InvalidRequest: its stages cannot be run; invalid_params says which and why.
            Conflict: its nodes turned out not to be able to.
        """
        pipeline = await self.make(caller, Wish.of(body))
        return pipeline.id, {"splitOpProfile": profile_of(pipeline, (), whole=True)}

    async def make(self, caller: Caller, wish: Wish) -> Pipeline:
        """A new pipeline.

        Raises:
            InvalidRequest, Conflict: as for `create`.
        """
        now = self._clock.now()
        pipeline = Pipeline(
            id=self._new_id(),
            owner=caller.subject,
            **await self._granted(caller, wish, now),
            version=1,
            created=now,
            changed=now,
        )
        await self._pipelines.add(pipeline, own_watch(pipeline), _messages(None, pipeline))
        try:
            return await self._begun(pipeline)
        except AimleError:
            await self._end(pipeline)
            raise

    async def replace(self, caller: Caller, pipeline_id: str, body: Wire) -> dict[str, Any]:
        """The SplitOpPipelineCreateResp after other requirements.

        Raises:
            NotFound: the caller has no such pipeline; InvalidRequest: as for `create`;
            Conflict: it keeps changing meanwhile, or its nodes cannot run it and it does not run now.
        """
        return await self._change(caller, pipeline_id, lambda _: Wish.of(body))

    async def modify(self, caller: Caller, pipeline_id: str, patch: Wire) -> dict[str, Any]:
        """The SplitOpPipelineCreateResp after a JSON merge patch of its profile.

        Raises:
            NotFound, InvalidRequest, Conflict: as for `replace`.
        """
        return await self._change(caller, pipeline_id, lambda pipeline: Wish.changed(pipeline, patch))

    async def delete(self, caller: Caller, pipeline_id: str) -> None:
        """End it.

        Raises:
            NotFound: the caller has no such pipeline; Conflict: it keeps changing meanwhile.
        """
        await self._end(await self._own(caller, pipeline_id))

    async def _change(
        self, caller: Caller, pipeline_id: str, edit: Callable[[Pipeline], Wish]
    ) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            now, before = self._clock.now(), await self._own(caller, pipeline_id)
            changed = replace(
                before,
                **await self._granted(caller, edit(before), now),
                version=before.version + 1,
                revision=before.revision + 1,
                changed=now,
                deployment=None,
                fault="",
            )
            changed = replace(changed, clients=before.clients if changed.multi_client else ())
            if await self._pipelines.replace(changed, own_watch(changed).body, _messages(before, changed)):
                pipeline = await self._begun(changed)
                return {"splitOpProfile": profile_of(pipeline, (), whole=True)}
        raise _changing()

    async def _begun(self, pipeline: Pipeline) -> Pipeline:
        """As it runs now, if this server runs it."""
        self._happened()
        if pipeline.execution is None:
            await self._execution.end(pipeline)
            return pipeline
        await self._execution.begin(pipeline)
        return await self._pipelines.get(pipeline.id) or pipeline

    async def _end(self, pipeline: Pipeline) -> None:
        for _ in range(_ATTEMPTS):
            if await self._pipelines.end(pipeline, _messages(pipeline, None), self._clock.now()):
                self._happened()
                await self._execution.end(pipeline)
                return
            pipeline = await self._own(Caller(pipeline.owner, frozenset()), pipeline.id)
        raise _changing()

    async def _own(self, caller: Caller, pipeline_id: str) -> Pipeline:
        found = await self._pipelines.get(pipeline_id)
        if found is None or found.owner != caller.subject or found.ended != NEVER:
            raise NotFound(f"no split operation pipeline {pipeline_id}")
        return found

    async def _granted(self, caller: Caller, wish: Wish, now: datetime) -> dict[str, Any]:
        """What a pipeline becomes by a wish, as fields of Pipeline; raises where it cannot be fulfilled."""
        try:
            self._check_uri(wish.notif_uri)
        except ValueError as error:
            raise InvalidRequest.of("/notifUri", str(error)) from error
        nodes = await self._nodes.at(filter(None, [*wish.nodes, wish.origin]), now)
        models = await self._stored(caller, wish.stages)
        names = [model.id for model in models]
        if wrong := list(faults(wish.stages, wish.usage, nodes, names, wish.pointer)):
            raise InvalidRequest.naming(wrong)
        return {
            **wish.fields(),
            "stage_owners": [owners_of(stage, nodes) for stage in wish.stages],
            "execution": wish.execution(nodes, models),
        }

    async def _stored(self, caller: Caller, stages: Sequence[Wire]) -> list[StoredModel]:
        """The models of the stages that the caller may have."""
        names = dict.fromkeys(stage["mlModelId"] for stage in stages)
        found = [await self._models.get(name) for name in names]
        return [model for model in found if model and self._models.may_access(model, caller)]


def own_watch(pipeline: Pipeline) -> Subscription:
    """The subscription that a pipeline's requestor has to it."""
    body = {"splitOpPipelineId": pipeline.id, "notifUri": pipeline.notif_uri, "splitOpEventId": PIPELINE_INFO}
    told = {"id": pipeline.id, "version": pipeline.version, "missing": []}
    state = {"since": pipeline.created, "told": [told]}
    reporting = {"rule": {}, "reports": 0, "next": NEVER}
    return Subscription(pipeline.id, OWN_WATCH, pipeline.owner, body, NEVER, state, reporting)


def _messages(before: Pipeline | None, after: Pipeline | None) -> list[Message]:
    """What nodes are told of a pipeline that was made, changed or ended; one that is out, of what it was in."""
    version = before.version + 1 if before else 1
    told = parts(before, after)
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


def _changing() -> Conflict:
    return Conflict("the pipeline keeps changing")

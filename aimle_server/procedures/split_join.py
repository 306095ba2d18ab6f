"""Split operation pipeline join (TS 23.482 8.14.2.8): clients of others use a pipeline that is made for several.

Every client has streams of its own, so each gets the results of its own inputs. A pipeline has room as long as its
nodes take its planned usage as often as it has clients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aimle_server.procedures.split_discovery import SplitDiscovery
from aimle_server.procedures.split_pipelines import own_watch
from aimle_server.procedures.split_stages import missing, named, profile_of
from ml_repository.split_nodes import SplitNodes
from ml_repository.split_pipelines import Pipeline, SplitPipelines
from sbi.auth import Caller
from sbi.clock import NEVER, Clock
from sbi.errors import Conflict, NotFound

Wire = Mapping[str, Any]

_ATTEMPTS = 5
"""Times that a change is tried while others change the pipeline too."""

_PER_CLIENT = ("inputFreq", "outputFreq")
"""What grows with the number of clients."""


class SplitPipelineJoin:
    """Lets callers join and leave."""

    def __init__(
        self,
        pipelines: SplitPipelines,
        nodes: SplitNodes,
        discovery: SplitDiscovery,
        clock: Clock,
        happened: Callable[[], None],
    ) -> None:
        self._pipelines = pipelines
        self._nodes = nodes
        self._discovery = discovery
        self._clock = clock
        self._happened = happened

    async def join(self, caller: Caller, pipeline_id: str) -> dict[str, Any]:
        """The SplitOpPipelineCreateResp with where the caller sends inputs and gets results.

        Raises:
            NotFound: there is no such pipeline for the caller.
            Conflict: it is for one client only, or has no room (cause SPLIT_OP_PIPELINE_FULL), or keeps changing.
        """
        pipeline = await self._change(caller, pipeline_id, lambda before: {*before.clients, caller.subject})
        return {"splitOpProfile": profile_of(pipeline, (), whole=True)}

    async def leave(self, caller: Caller, pipeline_id: str) -> None:
        """Leave it again; nothing happens to who has not joined.

        Raises:
            NotFound, Conflict: as for `join`, but for the room.
        """
        await self._change(caller, pipeline_id, lambda before: {*before.clients} - {caller.subject})

    async def _change(
        self, caller: Caller, pipeline_id: str, edit: Callable[[Pipeline], set[str]]
    ) -> Pipeline:
        for _ in range(_ATTEMPTS):
            before = await self._visible(caller, pipeline_id)
            clients = sorted(edit(before) - {before.owner})
            if clients == sorted(before.clients):
                return before
            await self._check_room(before, clients)
            now = self._clock.now()
            changed = replace(before, clients=clients, version=before.version + 1, changed=now)
            if await self._pipelines.replace(changed, own_watch(changed).body, ()):
                self._happened()
                return changed
        raise Conflict("the pipeline keeps changing")

    async def _visible(self, caller: Caller, pipeline_id: str) -> Pipeline:
        found = await self._pipelines.get(pipeline_id)
        if found is None or found.ended != NEVER or not await self._discovery.may_see(caller, found):
            raise _not_found(pipeline_id)
        if not found.multi_client and caller.subject != found.owner:
            raise Conflict("the pipeline is for one client", cause="SPLIT_OP_PIPELINE_FOR_ONE")
        return found

    async def _check_room(self, pipeline: Pipeline, clients: Sequence[str]) -> None:
        """Refuse a client more than the nodes take; one fewer is always possible."""
        if len(clients) < len(pipeline.clients):
            return
        times = {name: 1 + len(clients) for name in _PER_CLIENT}
        usage = {name: value * times.get(name, 1) for name, value in pipeline.usage.items()}
        nodes = await self._nodes.at(named(pipeline.stages), self._clock.now())
        if missing(pipeline, nodes, usage):
            raise Conflict("the nodes of the pipeline take no more clients", cause="SPLIT_OP_PIPELINE_FULL")


def _not_found(pipeline_id: str) -> NotFound:
    return NotFound(f"no split operation pipeline {pipeline_id}")

"""Split operation node registration (TS 23.482 8.14.2.4): VAL servers offer to run parts of split models.

Whoever has a pipeline made gives its model to the owners of the nodes that it names. So an address is its owner's as
long as a registration of it counts, and what runs the parts is at that address.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from ml_repository.model_access import ANY
from ml_repository.model_management import RESERVED
from ml_repository.register import faults_of_validity
from ml_repository.split_nodes import SplitNodes, address_of
from sbi.auth import Caller
from sbi.body import load
from sbi.clock import Clock
from sbi.errors import Forbidden, InvalidParam, InvalidRequest, NotFound
from schemas.base import merge_patch
from schemas.split_node_registration import SplitOpNodeReg

Wire = Mapping[str, Any]

_NODE = SplitOpNodeReg()


class SplitNodeRegistration:
    """The register of nodes, as those see it who registered them: nobody else does.

    Args:
        nodes: where they are kept.
        new_id: makes configuration IDs that nobody guesses.
        check_uri: raises ValueError for an address that must not be called.
        happened: has those who watch nodes looked after.
    """

    def __init__(
        self,
        nodes: SplitNodes,
        clock: Clock,
        new_id: Callable[[], str],
        check_uri: Callable[[str], None],
        happened: Callable[[], None],
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._new_id = new_id
        self._check_uri = check_uri
        self._happened = happened

    async def register(self, caller: Caller, node: Wire) -> tuple[str, Wire]:
        """Register a node; the configurationId and the SplitOpNodeReg.

        The same owner's former registration of it for the same model is replaced, its ID is gone.

        Raises:
            InvalidRequest: an attribute makes no sense; invalid_params says which.
            Forbidden: somebody else has registered a node at this address (cause SPLIT_NODE_IN_USE).
        """
        now = self._clock.now()
        self._check(node, now)
        await self._check_address(caller, node, now)
        configuration_id = self._new_id()
        await self._nodes.register(configuration_id, caller.subject, node, now)
        self._happened()
        return configuration_id, node

    async def get(self, caller: Caller, configuration_id: str) -> Wire:
        """The caller's node.

        Raises:
            NotFound: the caller has no such live registration.
        """
        return _found(
            await self._nodes.get(configuration_id, caller.subject, self._clock.now()), configuration_id
        )

    async def replace(self, caller: Caller, configuration_id: str, node: Wire) -> Wire:
        """State something else of a node, also another address.

        Raises:
            NotFound, InvalidRequest, Forbidden: as for `get` and `register`.
        """
        await self.get(caller, configuration_id)
        await self._check_address(caller, node, self._clock.now())
        return await self._change(caller, configuration_id, lambda _: node)

    async def modify(self, caller: Caller, configuration_id: str, patch: Wire) -> Wire:
        """The node after a JSON merge patch.

        Raises:
            NotFound, InvalidRequest: as for `replace`; also where the patch removes what a node needs.
        """
        return await self._change(
            caller, configuration_id, lambda current: load(_NODE, merge_patch(current, patch))
        )

    async def deregister(self, caller: Caller, configuration_id: str) -> None:
        """Remove a node.

        Raises:
            NotFound: the caller has no such live registration.
        """
        if not await self._nodes.delete(configuration_id, caller.subject, self._clock.now()):
            raise _not_found(configuration_id)
        self._happened()

    async def _change(self, caller: Caller, configuration_id: str, edit: Callable[[Wire], Wire]) -> Wire:
        now = self._clock.now()

        def checked(current: Wire) -> Wire:
            node = edit(current)
            self._check(node, now)
            return node

        changed = await self._nodes.change(configuration_id, caller.subject, checked, now)
        found = _found(changed, configuration_id)
        self._happened()
        return found

    async def _check_address(self, caller: Caller, node: Wire, now: datetime) -> None:
        there = await self._nodes.at([address_of(node["nodeInfo"])], now)
        if any(one.owner != caller.subject for one in there):
            raise Forbidden("this node is registered by another owner", cause="SPLIT_NODE_IN_USE")

    def _check(self, node: Wire, now: datetime) -> None:
        wrong = [InvalidParam(param, reason) for param, reason in self._faults(node, now)]
        if wrong:
            raise InvalidRequest.naming(wrong)

    def _faults(self, node: Wire, now: datetime) -> Iterator[tuple[str, str]]:
        """JSON pointers of what makes no sense, and why."""
        for pointer, uri in (
            ("/nodeInfo/uri", node["nodeInfo"].get("uri")),
            ("/aimle/splitNodeUri", node.get("aimle", {}).get("splitNodeUri")),
        ):
            try:
                if uri is not None:
                    self._check_uri(uri)
            except ValueError as error:
                yield pointer, str(error)
        runtime = node.get("aimle", {}).get("splitNodeUri", "")
        if runtime and not f"{runtime.rstrip('/')}/".startswith(f"{address_of(node['nodeInfo'])}/"):
            yield "/aimle/splitNodeUri", "is not at the URI of the node"
        model = node["sonRegCapability"]["modelInfo"]["modelId"]
        if model in RESERVED and model != ANY:
            yield "/sonRegCapability/modelInfo/modelId", "not an identifier of a model"
        yield from faults_of_validity(node, now)


def _found(node: Wire | None, configuration_id: str) -> Wire:
    if node is None:
        raise _not_found(configuration_id)
    return node


def _not_found(configuration_id: str) -> NotFound:
    return NotFound(f"no split operation node configuration {configuration_id}")

"""What discovery filters mean (TS 23.482 Table 8.14.3.2-1), and the stages that they ask for. No I/O.

DiscFilters mean the models of the stages in their order, the number of nodes of each (`numNodes`) and of all
(`minNodes`, at least), and the usage. The addresses in them, which their type demands although whoever discovers need
not know any, are preferences: what has more of them comes first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aimle_server.procedures.split_stages import named
from ml_repository.split_nodes import Node
from ml_repository.split_pipelines import Pipeline
from sbi.errors import InvalidParam, InvalidRequest

Wire = Mapping[str, Any]

_FILTERS = "/discFilters"
_MOST_NODES = 100


def check_filters(filters: Wire) -> None:
    """Refuse numbers that are none.

    Raises:
        InvalidRequest: with every attribute that is wrong.
    """
    numbers = {f"{_FILTERS}/minNodes": filters.get("minNodes", "1")}
    for place, stage in enumerate(filters["stageInfo"]):
        numbers[f"{_FILTERS}/stageInfo/{place}/numNodes"] = stage.get("numNodes", "1")
    reason = f"is no number from 1 to {_MOST_NODES}"
    wrong = [InvalidParam(pointer, reason) for pointer, text in numbers.items() if not _is_number(text)]
    if wrong:
        raise InvalidRequest.naming(wrong)


def meets(pipeline: Pipeline, filters: Wire) -> bool:
    """Whether a pipeline has the models, in their order, and the nodes that are wanted."""
    has, wanted = pipeline.stages, filters["stageInfo"]
    if [stage["mlModelId"] for stage in has] != [stage["mlModelId"] for stage in wanted]:
        return False
    sizes = [len(stage["nodeOrder"]) for stage in has]
    as_many = [int(want.get("numNodes", size)) for want, size in zip(wanted, sizes, strict=True)]
    return sizes == as_many and len(named(has)) >= _least(filters)


def make_stages(filters: Wire, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Stages as they are wanted, no node twice, those first in `nodes` first; empty: the nodes are not enough."""
    wanted, usage = filters["stageInfo"], filters.get("usageInfo", {})
    places = [place for place, count in enumerate(_counts(filters)) for _ in range(count)]
    suitable = [
        [node.address for node in nodes if node.takes(wanted[place]["mlModelId"], usage)] for place in places
    ]
    chosen = assign(suitable)
    if chosen is None or len(chosen) < _least(filters):
        return []
    endpoints = {node.address: _endpoint(node) for node in nodes}
    orders: list[list[Wire]] = [[] for _ in wanted]
    for place, address in zip(places, chosen, strict=True):
        orders[place].append(endpoints[address])
    return [_stage(stage, order) for stage, order in zip(wanted, orders, strict=True)]


def assign(suitable: Sequence[Sequence[str]]) -> list[str] | None:
    """A different name for each place, of those that suit it; None: there is no such choice (augmenting paths)."""
    holder: dict[str, int] = {}

    def find(place: int, tried: set[str]) -> bool:
        for name in suitable[place]:
            if name not in tried:
                tried.add(name)
                if name not in holder or find(holder[name], tried):
                    holder[name] = place
                    return True
        return False

    if not all(find(place, set()) for place in range(len(suitable))):
        return None
    return sorted(holder, key=lambda name: holder[name])


def _counts(filters: Wire) -> list[int]:
    """How many nodes each stage gets; those that lack go to the last one that does not say how many it wants."""
    wanted = filters["stageInfo"]
    counts = [int(stage.get("numNodes", "1")) for stage in wanted]
    open_ones = [place for place, stage in enumerate(wanted) if "numNodes" not in stage]
    if open_ones:
        counts[open_ones[-1]] += max(0, _least(filters) - sum(counts))
    return counts


def _stage(wanted: Wire, order: Sequence[Wire]) -> dict[str, Any]:
    return {
        "stageId": wanted["stageId"],
        "numNodes": str(len(order)),
        "headEp": order[0],
        "tailEp": order[-1],
        "nodeOrder": list(order),
        "mlModelId": wanted["mlModelId"],
    }


def _endpoint(node: Node) -> dict[str, Any]:
    if node.uri:
        return {"uri": node.uri}
    return {"ipv6Addrs" if ":" in node.address else "ipv4Addrs": [node.address]}


def _least(filters: Wire) -> int:
    return int(filters.get("minNodes", "1"))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= _MOST_NODES

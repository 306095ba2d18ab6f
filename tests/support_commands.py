"""Every query that our code sends to the database while the tests run, and whether an index answers it.

A listener of the driver sees each command; the frame that called Motor says whose query it is, so that what
tests look up by themselves does not count. Queries of servers in processes of their own are not seen.
"""

import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motor.frameworks import asyncio as framework
from pymongo import monitoring

from ml_repository.database import Database

Filter = Mapping[str, Any]

_ROOT = Path(__file__).parent.parent
_OURS = tuple(f"{_ROOT / package}/" for package in ("ml_repository", "aimle_server"))
_TESTS = f"{_ROOT / 'tests'}/"
_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)


@dataclass(frozen=True)
class Query:
    """One shape of query; two that differ in their values only are equal.

    Attributes:
        collection, kind: where, and by which command.
        shape: the filter with `?` for each value.
        sort: its fields.
        example: a filter of this shape.
        order: the sort of that query.
    """

    collection: str
    kind: str
    shape: str
    sort: tuple[str, ...]
    example: Filter = field(compare=False)
    order: Mapping[str, int] = field(compare=False)

    @classmethod
    def of(cls, collection: str, kind: str, query: Filter, order: Mapping[str, int] | None = None) -> "Query":
        """The query with this filter."""
        order = order or {}
        return cls(collection, kind, str(_shape(query)), tuple(order), query, order)

    def __str__(self) -> str:
        return f"{self.kind} {self.collection} {self.shape}" + (f" by {self.sort}" if self.sort else "")


SEEN: dict[Query, None] = {}
"""The queries of this run, in the order in which they came."""


class Recorder(monitoring.CommandListener):
    """Notes the queries of our code in `SEEN`."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """A command is about to be sent."""
        if _is_ours.get():
            for query in queries_of(event.command_name, event.command):
                SEEN.setdefault(query)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Of no interest."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Of no interest."""


def queries_of(name: str, command: Mapping[str, Any]) -> Iterator[Query]:
    """The queries in a command; none in one that finds nothing, such as an insert."""
    match name:
        case "find":
            yield Query.of(command["find"], name, command.get("filter", {}), command.get("sort"))
        case "update" | "delete":
            for part in command[f"{name}s"]:
                yield Query.of(command[name], name, part["q"])
        case "findAndModify" | "count" | "distinct":
            yield Query.of(command[name], name, command.get("query", {}), command.get("sort"))
        case "aggregate":
            first = command["pipeline"][0] if command["pipeline"] else {}
            yield Query.of(command[name], name, first.get("$match", {}))


async def unindexed(database: Database, query: Query) -> str:
    """Why no index answers a query in this database; empty if one does.

    A query is fine if the plan of a find with its filter reads an index. The embedded database's plans say
    COLLSCAN as soon as a filter has a condition more than its index has fields, though it uses the index. So
    such a filter is also fine if an index begins with some of its fields, and the plan for those reads an index.
    """
    if not query.example:
        return "every document is read"
    plan = await _plan(database, query.collection, query.example, query.order)
    if _reads_index(plan):
        return ""
    for leading in await _leading_fields(database, query):
        part = {name: query.example[name] for name in leading}
        if _reads_index(await _plan(database, query.collection, part, {})):
            return ""
    return "no index begins with a field of it" if _is_plain(query) else f"the plan is {plan['stage']}"


async def _plan(
    database: Database, collection: str, query: Filter, order: Mapping[str, int]
) -> Mapping[str, Any]:
    find = {"find": collection, "filter": query, **({"sort": order} if order else {})}
    explained = await database.db.command({"explain": find, "verbosity": "queryPlanner"})
    plan: Mapping[str, Any] = explained["queryPlanner"]["winningPlan"]
    return plan


def _reads_index(plan: Mapping[str, Any]) -> bool:
    stages = {"IXSCAN", "IDHACK", "COUNT_SCAN", "EXPRESS_IXSCAN", "EXPRESS_IDHACK"}
    inner = [plan["inputStage"]] if "inputStage" in plan else plan.get("inputStages", [])
    return plan["stage"] in stages or (bool(inner) and all(map(_reads_index, inner)))


async def _leading_fields(database: Database, query: Query) -> list[list[str]]:
    """For each index that begins with fields of the query: those fields, most of them first."""
    found = []
    for index in (await database[query.collection].index_information()).values():
        fields = []
        for name, _ in index["key"]:
            if name not in query.example:
                break
            fields.append(name)
        found.append(fields)
    return sorted(filter(None, found), key=len, reverse=True)


def _is_plain(query: Query) -> bool:
    return not any(name.startswith("$") for name in query.example)


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _shape(inner) for name, inner in value.items()}
    return None if value is None else "?"


def _called_by_us() -> bool:
    """Whether the nearest caller that is ours or a test's is ours."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_OURS):
            return True
        if name.startswith(_TESTS):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False


_run = framework.run_on_executor


def _run_noting_the_caller(*args: Any, **kwargs: Any) -> Any:
    """Motor's way into its threads, which takes the context variables along."""
    token = _is_ours.set(_called_by_us())
    try:
        return _run(*args, **kwargs)
    finally:
        _is_ours.reset(token)


def record() -> None:
    """Begin to note the queries of every connection that is opened from now on."""
    framework.run_on_executor = _run_noting_the_caller
    monitoring.register(Recorder())

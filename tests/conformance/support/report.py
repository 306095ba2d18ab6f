"""What the run has shown: by API and operation, as a table and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.documents import Documents, Operation
from support.exchange import Exchange

PASSED, FAILED, NOT_EXERCISED = "passed", "failed", "not exercised"
NOT_SUPPORTED, NOT_APPLICABLE = "not supported", "not applicable"
_HEAD = ("API", "operations", "exercised", "passed", "failed", "not supported", "failed tests")


@dataclass
class Failure:
    """A test that failed, why, and what was said to the server in it."""

    test: str
    message: str
    exchanges: list[str]


@dataclass
class Tally:
    """What became of one operation; `exercised` counts its exchanges."""

    exercised: int = 0
    not_supported: bool = False
    not_applicable: bool = False
    failures: list[Failure] = field(default_factory=list)

    @property
    def result(self) -> str:
        """In a word."""
        if self.failures:
            return FAILED
        if self.not_supported:
            return NOT_SUPPORTED
        if self.not_applicable:
            return NOT_APPLICABLE
        return PASSED if self.exercised else NOT_EXERCISED


class Report:
    """Collects exchanges, and what the tests made of them.

    Attributes:
        apis: the APIs that have tests.
        exchanges: those of the running test.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.apis: set[str] = set()
        self.exchanges: list[Exchange] = []
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._others: dict[str, list[Failure]] = {}

    def tally(self, operation: Operation) -> Tally:
        """Of an operation."""
        return self._tallies.setdefault((operation.api, operation.name), Tally())

    def record(self, exchange: Exchange) -> None:
        """An exchange of the running test."""
        self.exchanges.append(exchange)
        if exchange.operation is not None:
            self.tally(exchange.operation).exercised += 1

    def not_supported(self, operation: Operation) -> None:
        """The server has nothing at the operation's collection, so the others there are not supported either."""
        for one in self._documents.operations[operation.api].values():
            if one.collection == operation.collection:
                self.tally(one).not_supported = True

    def not_applicable(self, api: str) -> None:
        """Nobody was named who serves this API."""
        for one in self._documents.operations[api].values():
            self.tally(one).not_applicable = True

    def failed(self, api: str, operation: Operation | None, test: str, message: str) -> None:
        """A test of this API failed: at the operation that it is about, or at the last one that it did."""
        failure = Failure(test, message, [str(exchange) for exchange in self.exchanges])
        if operation is None:
            done = [one.operation for one in self.exchanges if one.operation and one.operation.api == api]
            operation = done[-1] if done else None
        if operation is None:
            self._others.setdefault(api, []).append(failure)
        else:
            self.tally(operation).failures.append(failure)

    def _results(self) -> Iterator[tuple[str, list[tuple[Operation, Tally]]]]:
        for api in sorted(self.apis & self._documents.operations.keys(), key=str.lower):
            operations = self._documents.operations[api].values()
            yield api, [(one, self.tally(one)) for one in operations]

    def table(self) -> list[str]:
        """Lines of the summary."""
        rows: list[tuple[str, ...]] = [_HEAD]
        for api, tallies in self._results():
            results = [tally.result for _, tally in tallies]
            tests = sum(len(tally.failures) for _, tally in tallies) + len(self._others.get(api, []))
            exercised = results.count(PASSED) + results.count(FAILED)
            counts = (len(results), exercised, *map(results.count, (PASSED, FAILED, NOT_SUPPORTED)), tests)
            rows.append((api, *map(str, counts)))
        sums = [sum(int(row[column]) for row in rows[1:]) for column in range(1, len(_HEAD))]
        rows.append(("all", *map(str, sums)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        return [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]

    def unjudged(self) -> list[str]:
        """APIs with tests here that nobody was named for."""
        return [api for api, tallies in self._results() if any(tally.not_applicable for _, tally in tallies)]

    def untested(self) -> list[str]:
        """APIs of the documents that this suite has no tests for."""
        return sorted(self._documents.operations.keys() - self.apis, key=str.lower)

    def write(self, path: Path, server: str) -> None:
        """The same in detail, as JSON."""
        apis = [
            {
                "api": api,
                "operations": [_entry(operation, tally) for operation, tally in tallies],
                "otherFailures": [vars(failure) for failure in self._others.get(api, [])],
            }
            for api, tallies in self._results()
        ]
        document: dict[str, Any] = {"server": server, "apis": apis, "untested": self.untested()}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _entry(operation: Operation, tally: Tally) -> dict[str, Any]:
    return {
        "operationId": operation.name,
        "method": operation.method,
        "path": operation.base + operation.path,
        "result": tally.result,
        "exchanges": tally.exercised,
        "failures": [vars(failure) for failure in tally.failures],
    }

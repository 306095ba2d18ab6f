"""Registration, discovery and selection: requests per second and 99th percentile.

The other side is a process with bare handlers on the same embedded database (`bare`). Ours checks tokens,
validates and writes its access log, as it does by default. Selection asks the clients, all in one more process,
on both sides. The requests of a measurement are sent over some connections at once, as fast as they are answered.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from benchmarks import load
from benchmarks.measure import Figures, Row, Scale, Target, alternate, column
from benchmarks.population import populate
from benchmarks.server import SERVICE, Server, criteria, process, registration, running_server

GROUP = "requests"
OTHER = "bare handler with Motor"
REGISTERED = 1000
RESULTS = 100
SELECTED = 10


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        name: what it is.
        connections: how many are open at once.
        count: requests of one measurement.
        make: (apiRoot, token, number that no other request has) -> the request.
    """

    name: str
    connections: int
    count: int
    make: Callable[[str, str, int], bytes]


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Rates and percentiles of the three kinds."""
    kinds = [
        Kind("registration", 16, scale.size(2000, 100), _registration),
        Kind(f"discovery, {RESULTS} results", 16, scale.size(400, 50), _discovery),
        Kind(f"selection of {SELECTED}", 8, scale.size(200, 20), _selection),
    ]
    async with _sides() as (server, bare):
        for kind in kinds:
            for row in await _compare(kind, server, bare, scale):
                yield row


async def _compare(kind: Kind, server: Server, bare: str, scale: Scale) -> list[Row]:
    ours, other = _measurement(kind, server.url, server.token(SERVICE)), _measurement(kind, bare, "none")
    for warm_up in (ours, other):
        await warm_up(kind.count // 10)
    mine, theirs = await alternate(partial(ours, kind.count), partial(other, kind.count), scale.repetitions)
    what = f"{kind.name}, {kind.connections} connections"

    def row(name: str, unit: str, target: Target | None = None) -> Row:
        return Row(GROUP, what, unit, column(mine, name), OTHER, column(theirs, name), target)

    return [row("rate", "requests/s", Target(0.6, at_least=True)), row("p99", "ms, 99th percentile")]


def _measurement(kind: Kind, url: str, token: str) -> Callable[[int], Awaitable[Figures]]:
    """What sends as many requests as it is told, each another one than those before."""
    sent = 0

    async def measure(count: int) -> Figures:
        nonlocal sent
        requests = [kind.make(url, token, sent + number) for number in range(count)]
        sent += count
        return await load.send(url, requests, kind.connections)

    return measure


@asynccontextmanager
async def _sides() -> AsyncIterator[tuple[Server, str]]:
    """A server with registered clients that answer, and the apiRoot of the bare handlers."""
    async with (
        running_server() as server,
        process("benchmarks.bare", "clients") as (_, port),
        server.database_url() as database,
        process("benchmarks.bare", "work", database) as (_, bare_port),
    ):
        await populate(server, 0, REGISTERED, int(port))
        yield server, f"http://127.0.0.1:{bare_port}"


def _registration(url: str, token: str, number: int) -> bytes:
    body = registration(f"ue-{number}", "http://127.0.0.1:9", "rare")
    # They serve another purpose than the clients to be found, whose number stays the same.
    body["suppProfiles"][0]["suppServices"] = [{"valServiceId": "another"}]
    return load.request("POST", url, "/aimles-client-reg/v1/registrations", token, body)


def _discovery(url: str, token: str, number: int) -> bytes:
    query = f"filt-criteria={quote(json.dumps(criteria()))}&cl-number={RESULTS}"
    return load.request("GET", url, f"/aimles-disc/v1/clients?{query}", token)


def _selection(url: str, token: str, number: int) -> bytes:
    body = {"selCriteria": criteria(), "reqNum": SELECTED, "minNum": SELECTED}
    return load.request("POST", url, "/aimles-sel/v1/select", token, body)

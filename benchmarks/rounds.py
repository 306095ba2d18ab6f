"""HFL rounds against Flower and NVIDIA FLARE, and the memory of the server side.

On each side client n adds n to every value of the model (float32, ten tensors, FLARE's recipe: one) with one sample,
the server averages, nobody evaluates (our clients are asked to, and return at once), and the result is checked. A
round is the time from its start to the start of the next one, by the server's own clock; of each session the mean
of its rounds counts, without the first. Ours is `aimle-server run` as it is, with its embedded database.

Against the simulation our clients share as many processes as there are cores, as Flower's do; against the others
each client is a process of its own. Memory is the sum of the peaks of the server side's processes: our server, alone
and with its database, which the others do not have; FLARE's server and its job; Flower's SuperLink and what it
starts; of the simulation the process with the server app only, without Ray's.
"""

import asyncio
import json
import os
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Figures, Row, Scale, Target, alternate, column
from benchmarks.memory import PeakMemory, tree
from benchmarks.server import clean_environment
from benchmarks.trainings import cast

GROUP = "rounds"
ROUNDS = 4
"""Of a session: one to warm up, two that count, and the last, which has no next one."""

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".bench"
_PATIENCE = 1800


@dataclass(frozen=True)
class Peer:
    """Whom we are compared with: its name, its script in `peers` and the environment that it runs in."""

    name: str
    script: str
    environment: str


SIMULATION = Peer("Flower simulation", "flower_simulation", "flwr")
DEPLOYMENT = Peer("Flower deployment", "flower_deployment", "flwr")
FLARE = Peer("NVIDIA FLARE POC", "flare_poc", "nvflare")


@dataclass(frozen=True)
class Comparison:
    """Clients and values of a model, a peer, and what is to be reached.

    Attributes:
        seconds, memory: the most that ours may take of theirs; None: for information.
    """

    peer: Peer
    clients: int
    values: int
    seconds: float | None = None
    memory: float | None = None


COMPARISONS = (
    Comparison(SIMULATION, 10, 10_000_000, 1 / 3, 1 / 4),
    Comparison(SIMULATION, 10, 1_000_000, 1 / 3),
    Comparison(SIMULATION, 200, 100_000, 1 / 5),
    Comparison(SIMULATION, 40, 10_000_000, memory=1 / 4),
    Comparison(FLARE, 4, 1_000_000, 1 / 8),
    Comparison(FLARE, 10, 1_000_000, 1 / 8),
    Comparison(FLARE, 10, 10_000_000, 1 / 4, 1 / 4),
    Comparison(DEPLOYMENT, 4, 1_000_000, 1 / 20),
    Comparison(DEPLOYMENT, 10, 1_000_000, 1 / 20),
    Comparison(DEPLOYMENT, 10, 10_000_000, 1 / 10, 1 / 4),
)
QUICK = (
    Comparison(SIMULATION, 3, 10_000, 1 / 3),
    Comparison(FLARE, 2, 10_000, 1 / 8),
    Comparison(DEPLOYMENT, 2, 10_000, 1 / 20),
)


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Seconds of a round and, where it counts, megabytes of the server side."""
    for comparison in QUICK if scale.quick else COMPARISONS:
        if scale.peer in ("", comparison.peer.script):
            for row in await _compare(comparison, scale):
                yield row


async def _compare(comparison: Comparison, scale: Scale) -> list[Row]:
    async def ours() -> Figures:
        return await _our_session(comparison)

    async def other() -> Figures:
        return await _their_session(comparison)

    mine, theirs = await alternate(ours, other, scale.repetitions)
    what = f"{comparison.clients} clients x {comparison.values:,} float32"

    def row(what: str, unit: str, name: str, target: float | None) -> Row:
        bound = Target(target) if target else None
        return Row(GROUP, what, unit, column(mine, name), comparison.peer.name, column(theirs, name), bound)

    rows = [row(f"round, {what}", "s", "seconds", comparison.seconds)]
    if comparison.memory:
        rows.append(row(f"memory of the server, {what}", "MB", "memory", comparison.memory))
        rows.append(row(f"the same with its database, {what}", "MB", "with database", None))
    return rows


async def _our_session(comparison: Comparison) -> Figures:
    shared = comparison.peer is SIMULATION
    processes = min(comparison.clients, os.cpu_count() or 1) if shared else comparison.clients
    async with cast(comparison.clients, processes) as company:
        server = company.server.pid
        with PeakMemory(lambda: [server]) as alone, PeakMemory(lambda: tree(server)) as all_of_it:
            trained = await company.train(comparison.values, ROUNDS)
    return _figures(trained.round_seconds()[1:], alone.bytes, all_of_it.bytes)


async def _their_session(comparison: Comparison) -> Figures:
    peer = comparison.peer
    python = ENVIRONMENTS / peer.environment / "bin" / "python"
    if not python.exists():
        raise RuntimeError(f"{peer.name} has no environment: `make bench` makes it")
    sizes = (comparison.clients, comparison.values, ROUNDS)
    running = await asyncio.create_subprocess_exec(
        *(str(python), "-m", f"benchmarks.peers.{peer.script}", *map(str, sizes)),
        cwd=ROOT,
        env=clean_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_PATIENCE):
        out, err = await running.communicate()
    if running.returncode:
        raise RuntimeError(f"{peer.name} failed:\n{err.decode(errors='replace')[-3000:]}")
    outcome = json.loads(out.decode().strip().splitlines()[-1])
    return _figures(outcome["round_seconds"], *2 * [outcome["peak_rss_bytes"]])


def _figures(seconds: list[float], peak: int, with_database: int) -> Figures:
    return {"seconds": statistics.fmean(seconds), "memory": peak / 1e6, "with database": with_database / 1e6}

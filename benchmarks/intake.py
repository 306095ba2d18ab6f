"""Bytes per second that the aggregator takes in: ten updates of 40 MB, all at the same time.

A training waits for ten participants' updates, and gets them again and again; ours writes each to disk, checks its
digest, shapes and values and keeps it for the round. The other side reads the same requests and discards them. The
sender is this process: a thread per upload that has the kernel send the file, so that it costs little.
"""

import asyncio
import hashlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.measure import Figures, Measurement, Row, Scale, Target, alternate, column
from benchmarks.participants import participants
from benchmarks.server import DATASET, SERVICE, in_tensors, process, running_server
from sbi import tensors
from sbi.digests import REPR_DIGEST, repr_digest

GROUP = "intake"
CLIENTS = 10


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Megabytes per second, all uploads together."""
    values = scale.size(10_000_000, 100_000)
    with tempfile.TemporaryDirectory(prefix="aimle-bench-") as folder:
        update = Path(folder, "update")
        tensors.write(update, in_tensors(np.ones(values, np.float32)), {"aimle.num_samples": "1"})
        async with _sides(values) as (ours, other):
            our_side, other_side = _uploads(update, ours), _uploads(update, other)
            for warm_up in (our_side, other_side):
                await warm_up()
            mine, theirs = await alternate(our_side, other_side, scale.repetitions)
        size = update.stat().st_size
    yield Row(
        GROUP,
        f"{CLIENTS} updates of {size / 1e6:.3g} MB at once",
        "MB/s",
        column(mine, "rate"),
        "bare aiohttp handler that discards them",
        column(theirs, "rate"),
        Target(0.8, at_least=True),
    )


@asynccontextmanager
async def _sides(values: int) -> AsyncIterator[tuple[list[str], list[str]]]:
    """Where the updates go, at a server with a training that waits for them, and at the bare handler."""
    async with (
        running_server() as server,
        participants(server, CLIENTS) as clients,
        server.database_url() as database,
        process("benchmarks.bare", "work", database) as (_, port),
    ):
        secrets = await server.add_clients([SERVICE])
        async with server.val(secrets[SERVICE]) as val:
            await val.store_model("bench", in_tensors(np.zeros(values, np.float32)), services=[SERVICE])
            training = await val.train(model_id="bench", dataset_ids=[DATASET], members=clients.names)
            async with asyncio.timeout(60):
                await clients.all_asked()
            bare = [f"http://127.0.0.1:{port}/upload/{number}" for number in range(CLIENTS)]
            yield list(clients.updates.values()), bare
            await training.cancel()


def _uploads(update: Path, urls: Sequence[str]) -> Measurement:
    content_digest = hashlib.sha256(update.read_bytes()).hexdigest()

    async def measure() -> Figures:
        began = time.perf_counter()
        await asyncio.gather(*(asyncio.to_thread(_put, url, update, content_digest) for url in urls))
        size = update.stat().st_size * len(urls)
        return {"rate": size / 1e6 / (time.perf_counter() - began)}

    return measure


def _put(url: str, path: Path, sha256: str) -> None:
    """The request that our SDK sends, from a plain socket."""
    parts = urlsplit(url)
    lines = [
        f"PUT {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {path.stat().st_size}",
        f"{REPR_DIGEST}: {repr_digest(sha256)}",
        "Connection: close",
    ]
    with socket.create_connection((parts.hostname, parts.port)) as connection, path.open("rb") as file:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.sendfile(file)
        answer = connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 204"):
        raise RuntimeError(answer.decode(errors="replace"))

"""Bytes per second that the aggregator takes in: ten updates of 40 MB, all at the same time.

A training waits for ten participants' updates, and gets them again and again; ours writes each to disk, checks its
digest, shapes and values and keeps it for the round. The other side reads the same requests and discards them; a
second one takes their digest (CRC32C), on the one thread that it has, to show what that alone costs. The sender is this
process: a thread per upload that has the kernel send the file, so that it costs little.
"""

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.measure import Figures, Measurement, Row, Scale, Target, alternate, column
from benchmarks.participants import participants
from benchmarks.server import DATASET, SERVICE, in_tensors, process, running_server
from sbi import tensors
from sbi.digests import CRC32C, REPR_DIGEST, Digest, digest_of_buffers

GROUP = "intake"
CLIENTS = 10


async def run(scale: Scale) -> AsyncIterator[Row]:
    """Megabytes per second, all uploads together."""
    values = scale.size(10_000_000, 100_000)
    with tempfile.TemporaryDirectory(prefix="aimle-bench-") as folder:
        update = Path(folder, "update")
        tensors.write(update, in_tensors(np.ones(values, np.float32)), {"aimle.num_samples": "1"})
        async with _sides(values) as (urls, bare):
            ours, discard, digest = (
                _uploads(update, targets) for targets in (urls, bare("upload"), bare("digest"))
            )

            async def others() -> Figures:
                return {"discard": (await discard())["rate"], "digest": (await digest())["rate"]}

            for warm_up in (ours, others):
                await warm_up()
            mine, theirs = await alternate(ours, others, scale.repetitions)
        size = update.stat().st_size
    what = f"{CLIENTS} updates of {size / 1e6:.3g} MB at once"
    rate = column(mine, "rate")
    discarding = column(theirs, "discard")
    yield Row(GROUP, what, "MB/s", rate, "bare handler that discards", discarding, Target(0.8, at_least=True))
    yield Row(GROUP, what, "MB/s", rate, "bare handler that takes the digest", column(theirs, "digest"))


@asynccontextmanager
async def _sides(values: int) -> AsyncIterator[tuple[list[str], Callable[[str], list[str]]]]:
    """Where the updates go, at a server with a training that waits for them, and at a bare handler by its name."""
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
            yield (
                list(clients.updates.values()),
                lambda name: [f"http://127.0.0.1:{port}/{name}/{number}" for number in range(CLIENTS)],
            )
            await training.cancel()


def _uploads(update: Path, urls: Sequence[str]) -> Measurement:
    digest = digest_of_buffers([update.read_bytes()], CRC32C)

    async def measure() -> Figures:
        began = time.perf_counter()
        await asyncio.gather(*(asyncio.to_thread(_put, url, update, digest) for url in urls))
        size = update.stat().st_size * len(urls)
        return {"rate": size / 1e6 / (time.perf_counter() - began)}

    return measure


def _put(url: str, path: Path, digest: Digest) -> None:
    """The request that our SDK sends, from a plain socket."""
    parts = urlsplit(url)
    lines = [
        f"PUT {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {path.stat().st_size}",
        f"{REPR_DIGEST}: {digest}",
        "Connection: close",
    ]
    with socket.create_connection((parts.hostname, parts.port)) as connection, path.open("rb") as file:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.sendfile(file)
        answer = connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 204"):
        raise RuntimeError(answer.decode(errors="replace"))

"""Clients that lie about their updates or dawdle: what that costs the server, and that the others finish.

What is wrong with an update as a file (cut short, not finite, impossible sample counts) is in
tests/component/test_hfl_addresses.py.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from aimle_server.serve import LINGER_SECONDS
from ml_repository.database import Database
from sbi.body import READ_SECONDS
from sbi.spool import PACE
from sbi.tensors import MAX_HEADER
from tests.support import eventually
from tests.support_participant import Participant, all_asked, participants, update
from tests.support_process import DATA, peak_memory, server_process
from tests.support_training import begin, events_of

pytestmark = pytest.mark.faults

MIB = 1 << 20
GIB = 1 << 30
PIECE = bytes(MIB)
ONES = np.ones(4, np.float32)
PATIENCE = 3.0
"""`server.idle_timeout` here."""


@dataclass
class Scene:
    """A training in its first round, in a server process of its own; only `good` behave."""

    url: str
    process: asyncio.subprocess.Process
    spool: Path
    database: Database
    val: ValServer
    training: Training
    good: list[Participant]
    bad: list[Participant]

    def spooled(self) -> int:
        """Bytes of uploads on disk."""
        found = 0
        for path in self.spool.rglob("*"):
            with suppress(FileNotFoundError):  # its upload ended a moment ago
                found += path.stat().st_size * path.is_file()
        return found

    async def offences(self, client: Participant) -> int:
        """How many are in the client's record."""
        record = await self.database["registrations"].find_one({"_id": client.name})
        assert record is not None
        return int(record["_stats"].get("offences", 0))

    async def good_ones_finish(self, last: int) -> None:
        """The clients that behave do their rounds up to `last` and see the right result."""
        for number in range(1, last + 1):
            await asyncio.gather(*(client.asked(number) for client in self.good))
            await asyncio.gather(*(client.participate(update(number * ONES)) for client in self.good))
        await asyncio.gather(*(client.asked(last + 1) for client in self.good))
        assert await asyncio.gather(*(client.notify() for client in self.good)) == [204] * len(self.good)
        end = (await events_of(self.training))[-1]
        assert end.state == "COMPLETED", end
        result = await self.val.download_model(str(end.output_model_id))
        np.testing.assert_array_equal(result["w"], last * ONES)


@asynccontextmanager
async def scene(
    folder: Path,
    database: Database,
    mongo_url: str,
    port: int,
    bad: list[str],
    *flags: str,
    rounds: int = 2,
    round_timeout: float = 60,
    **profile: Any,
) -> AsyncIterator[Scene]:
    """The first round has begun: every client has been asked; `profile`: more of its TrainingProfile."""
    where = ("--database-url", mongo_url, "--database-name", database.db.name)
    url, good = f"http://127.0.0.1:{port}", ["ue-1", "ue-2"]
    async with (
        server_process(folder, "--insecure-no-auth", "--port", str(port), *where, *flags) as process,
        participants(url, *good, *bad) as clients,
        ValServer(url, listen=("127.0.0.1", 0)) as val,
    ):
        training = await begin(
            val,
            members=[*good, *bad],
            objective=Objective(max_epochs=rounds),
            profile=TrainingProfile(min_reports=0.3, round_timeout=round_timeout, **profile),
        )
        await all_asked(clients)
        spool = folder / DATA / "spool" / "updates"
        yield Scene(url, process, spool, database, val, training, clients[:2], clients[2:])


@dataclass(frozen=True)
class Ending:
    """How a connection ended: what the server had answered, bytes that it had taken, and after how many seconds."""

    answer: str
    sent: int
    seconds: float

    @property
    def status(self) -> int:
        """Of the first answer; 0: there was none."""
        return int(self.answer.split()[1]) if self.answer else 0


async def send(url: str, pieces: Iterable[bytes], pause: float = 0) -> Ending:
    """Send the pieces, whatever is answered meanwhile, until the server closes the connection."""
    host, port = url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    began, sent, answer = time.monotonic(), 0, bytearray()

    async def sending() -> None:
        nonlocal sent
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
                await asyncio.sleep(pause)

    task = asyncio.create_task(sending())
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            answer += data
    seconds = time.monotonic() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    writer.transport.abort()
    return Ending(answer.decode(), sent, seconds)


def head(method: str, url: str, *headers: str) -> bytes:
    """The beginning of a request."""
    path = url.split("/", 3)[3]
    return "\r\n".join([f"{method} /{path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def without_end(first: bytes, piece: bytes = PIECE) -> Iterator[bytes]:
    """A request, and two gigabytes after it."""
    return chain([first], repeat(piece, 2 * GIB // MIB))


async def watch(scene: Scene, seen: list[int]) -> None:
    """Note how much is spooled, until cancelled."""
    while True:
        seen.append(scene.spooled())
        await asyncio.sleep(0.01)


async def test_uploads_without_an_end(
    tmp_path: Path, database: Database, mongo_url: str, unused_tcp_port: int
) -> None:
    """Two gigabytes where a kilobyte was announced, or where the model has a few bytes: nobody else notices.

    Neither memory nor disk takes more than an update may have, and nothing is left of it. Whoever sends an update
    that is too long twice is excluded; what follows a body of the announced length is no part of it, and no offence.
    """
    names = ["lies", "announces", "never-ends"]
    async with scene(tmp_path, database, mongo_url, unused_tcp_port, names, "--hfl-max-offences", "2") as it:
        lies, announces, never_ends = it.bad
        spooled: list[int] = []
        watching = asyncio.create_task(watch(it, spooled))
        before = peak_memory(it.process)
        kilobyte = update(ONES, {"padding": "x" * 900})
        first = head("PUT", lies.update_url, f"Content-Length: {len(kilobyte)}") + kilobyte
        chunk = b"100000\r\n" + PIECE + b"\r\n"
        refused = [(client, client.update_url) for client in (announces, never_ends)]
        for _ in range(2):
            lied, announced, poured = await asyncio.gather(
                send(lies.update_url, without_end(first)),
                send(
                    announces.update_url,
                    without_end(head("PUT", announces.update_url, f"Content-Length: {2 * GIB - 1}")),
                ),
                send(
                    never_ends.update_url,
                    without_end(head("PUT", never_ends.update_url, "Transfer-Encoding: chunked"), chunk),
                ),
            )
            assert (announced.status, poured.status) == (413, 413)
            # The kilobyte is an update, unless it came in one with the rest, whose reset may overtake the answer.
            assert lied.status in (204, 400, 0)
            assert lied.sent < 64 * MIB, "what follows the kilobyte is no request"
            assert max(each.seconds for each in (lied, announced, poured)) < LINGER_SECONDS + 6, (
                "a refused body is not read for long"
            )
        await eventually(lambda: all(client.operations[-1]["servOpMode"] == "STOP" for client, _ in refused))
        for client, address in refused:
            assert await it.offences(client) == 2
            assert (await client.put(update(ONES), address))[0] == 404
        assert peak_memory(it.process) - before < 48 * MIB
        assert max(spooled) < MAX_HEADER + MIB
        assert it.spooled() == 0
        it.good.append(lies)
        await it.good_ones_finish(2)
        watching.cancel()


async def test_decompression_bombs(
    tmp_path: Path, database: Database, mongo_url: str, unused_tcp_port: int
) -> None:
    """Two gigabytes in some kilobytes cost a block of memory, the disk of an update, and the sender its place."""
    packing = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(packing.compress(PIECE) for _ in range(2 * GIB // MIB)) + packing.flush()
    assert len(bomb) < MIB
    packed = {"Content-Encoding": "zstd"}
    flags = ("--hfl-max-offences", "2")
    async with scene(
        tmp_path, database, mongo_url, unused_tcp_port, ["bomber"], *flags, update_compression="ZSTD"
    ) as it:
        (bomber,), spooled = it.bad, list[int]()
        address = bomber.update_url
        watching = asyncio.create_task(watch(it, spooled))
        # One update as it should be, so that what unpacking takes is there before.
        assert (await it.good[0].put(zstandard.compress(update(ONES)), **packed))[0] == 204
        before = peak_memory(it.process)
        for _ in range(2):
            assert (await bomber.put(bomb, address, **packed))[0] == 413
        await eventually(lambda: bomber.operations[-1]["servOpMode"] == "STOP")
        assert await it.offences(bomber) == 2
        assert peak_memory(it.process) - before < 32 * MIB
        assert max(spooled) < MAX_HEADER + 2 * MIB
        assert it.spooled() == 0
        await it.good_ones_finish(2)
        watching.cancel()


async def test_uploads_that_are_never_finished(
    tmp_path: Path, database: Database, mongo_url: str, unused_tcp_port: int
) -> None:
    """Of what a client begins to send, round after round, no more than one upload lies about."""
    async with scene(
        tmp_path, database, mongo_url, unused_tcp_port, ["begins"], rounds=3, round_timeout=30
    ) as it:
        (begins,) = it.bad
        for number in range(1, 4):
            await all_asked([*it.good, begins], number)
            part = {"Content-Range": f"bytes 0-{MIB - 1}/{4 * MIB}"}
            assert (await begins.put(PIECE, **part))[0] == 204
            assert it.spooled() == MIB
            assert await begins.notify() == 204
            await asyncio.gather(*(client.participate(update(ONES)) for client in it.good))
        await all_asked(it.good, 4)


async def test_a_client_that_comes_back(
    tmp_path: Path, database: Database, mongo_url: str, unused_tcp_port: int
) -> None:
    """A client whose connection has died unnoticed sends its update anew and is served at once."""
    async with scene(tmp_path, database, mongo_url, unused_tcp_port, ["loses-its-way"]) as it:
        (client,) = it.bad
        began = time.monotonic()
        first = chain([head("PUT", client.update_url, "Content-Length: 1000"), b"x"])
        lost = asyncio.create_task(send(client.update_url, first))
        await eventually(lambda: list(it.spool.glob("*.part")))
        await client.participate(update(ONES))
        assert (await lost).answer == "", "its connection is closed"
        assert time.monotonic() - began < 5


async def test_a_crowd(tmp_path: Path, unused_tcp_port: int) -> None:
    """Whoever connects while the server is busy with something else waits, and none is forgotten.

    Nor does it matter that the shell that starts the server lets it open few files at first.
    """
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    few = ("sh", "-c", 'ulimit -S -n 256 && exec "$@"', "sh")
    flags = ("--insecure-no-auth", "--port", str(unused_tcp_port))
    async with server_process(tmp_path, *flags, within=few) as process, asyncio.timeout(30):
        process.send_signal(signal.SIGSTOP)
        try:
            crowd = [await asyncio.open_connection("127.0.0.1", unused_tcp_port) for _ in range(600)]
        finally:
            process.send_signal(signal.SIGCONT)
        for _, writer in crowd:
            writer.write(request)
        answers = await asyncio.gather(*(reader.readline() for reader, _ in crowd))
        assert set(answers) == {b"HTTP/1.1 200 OK\r\n"}
        for _, writer in crowd:
            writer.close()


async def test_a_byte_a_second(
    tmp_path: Path, database: Database, mongo_url: str, unused_tcp_port: int
) -> None:
    """Hundreds of connections that dawdle are closed in time, at whichever part of a request; rounds go on.

    A slow client is not an offender: its rounds go by without it.
    """
    flags = ("--server-idle-timeout", str(PATIENCE))
    names = ["slow-1", "slow-2"]
    async with scene(
        tmp_path, database, mongo_url, unused_tcp_port, names, *flags, rounds=1, round_timeout=6
    ) as it:
        before = peak_memory(it.process)
        update_url, notify_url = it.bad[0].update_url, it.bad[1].notif_uri
        length = "Content-Length: 1000"
        json_head = head("POST", notify_url, length, "Content-Type: application/json")
        idle = [send(it.url, []) for _ in range(300)]
        headers = [send(it.url, chain([b"GET / HTTP/1.1\r\nX: "], repeat(b"x", 60)), 1) for _ in range(300)]
        body = send(update_url, chain([head("PUT", update_url, length)], repeat(b"x", 60)), 1)
        text = send(notify_url, chain([json_head], repeat(b" ", 60)), 1)
        dawdling = [asyncio.create_task(each) for each in (*idle, *headers, body, text)]
        await asyncio.sleep(0.5)
        await it.good_ones_finish(1)
        endings = await asyncio.gather(*dawdling)
        early, (model, report) = endings[:600], endings[600:]
        assert {each.status for each in early} == {0}
        assert all(PATIENCE - 0.5 < each.seconds < PATIENCE + 3 for each in early)
        assert (model.status, report.status) == (408, 408)
        assert PACE.seconds - 1 < model.seconds < PACE.seconds + LINGER_SECONDS + 3
        assert READ_SECONDS - 1 < report.seconds < READ_SECONDS + LINGER_SECONDS + 3
        assert peak_memory(it.process) - before < 48 * MIB
        assert [await it.offences(client) for client in it.bad] == [0, 0]

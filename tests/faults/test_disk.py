"""A disk that fills, under a real server process: what callers are told, and how trainings go on.

Two ways, both real: a small file system of the server's own (ENOSPC), for which a test needs the right to mount
in a namespace of its own, which root and most desktop users have; and a limit on the size of files (EFBIG), which
anybody may set.
"""

import asyncio
import json
import os
import resource
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from aimle_client.val import Objective, Training, TrainingProfile, ValServer
from ml_repository.database import Database
from tests.support import eventually
from tests.support_participant import Participant, all_asked, participants, update
from tests.support_process import DATA, server_process
from tests.support_training import SERVICE, events_of

pytestmark = pytest.mark.faults

LEFT = 64 * 1024
"""Bytes that there still is room for on a full disk: less than a model here has."""
ONES = np.ones(LEFT, np.float32)
DISK_BYTES = 64 * len(ONES)
MOUNT = ("unshare", "-Umr", "sh", "-c")
MOUNTED = f'mkdir -p {DATA} && mount -t tmpfs -o size={DISK_BYTES} tmpfs {DATA} && exec "$@"'


def may_mount(folder: Path) -> bool:
    """Whether this user may have a file system of its own."""
    try:
        return (
            subprocess.run([*MOUNT, MOUNTED, "sh", "true"], cwd=folder, capture_output=True).returncode == 0
        )
    except FileNotFoundError:
        return False


class SmallDisk:
    """A file system that only the server sees; what fills it is a file beside the server's."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.data = Path(f"/proc/{pid}/root") / folder.relative_to("/") / DATA
        self._filler = self.data / "filler"

    def fill(self) -> None:
        """Leave room for `LEFT` bytes."""
        free = os.statvfs(self.data)
        self._filler.write_bytes(bytes(free.f_bavail * free.f_frsize - LEFT))

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink()


class SizeLimit:
    """No file of the server may grow beyond a size."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.data = folder / DATA
        self._pid = pid

    def fill(self) -> None:
        """Allow `LEFT` bytes."""
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (LEFT, resource.RLIM_INFINITY))

    def free(self) -> None:
        """Allow any size again."""
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@dataclass
class Scene:
    """A server whose disk the test fills, a VAL server with a stored model, and two clients."""

    url: str
    disk: SmallDisk | SizeLimit
    log: Path
    val: ValServer
    clients: list[Participant]

    async def begin(self) -> Training:
        """A training of one round of both clients."""
        return await self.val.train(
            model_id="large",
            dataset_ids=["digits"],
            members=[client.name for client in self.clients],
            objective=Objective(max_epochs=1),
            profile=TrainingProfile(min_reports=1.0, round_timeout=30),
        )

    async def upload(self) -> None:
        """Both clients send their updates."""
        for client in self.clients:
            status, problem, _ = await client.put(update(ONES))
            assert status == 204, problem

    async def report(self) -> None:
        """Both clients say that they are through with the round."""
        assert await asyncio.gather(*(client.notify() for client in self.clients)) == [204, 204]

    async def finish(self, training: Training) -> None:
        """Both clients evaluate the round's model; the training ends with the right one."""
        await all_asked(self.clients, 2)
        await self.report()
        end = (await events_of(training))[-1]
        assert end.state == "COMPLETED", end
        result = await self.val.download_model(str(end.output_model_id))
        np.testing.assert_array_equal(result["w"], ONES)

    async def waits_for_room(self) -> None:
        """Return when the log says so."""
        await eventually(lambda: "waits for room on the disk" in self.log.read_text())

    def unfinished(self) -> list[str]:
        """Files that are in the way and of no use."""
        spooled = [path.name for path in (self.disk.data / "spool").rglob("*") if path.is_file()]
        return spooled + [path.name for path in (self.disk.data / "trainings").rglob("*.part")]

    async def works(self) -> None:
        """Other requests are answered as ever."""
        assert (await self.clients[0].call("GET", f"{self.url}/readyz"))[0] == 200
        await self.clients[0].register()


@asynccontextmanager
async def scene(
    kind: type[SmallDisk | SizeLimit], folder: Path, database: Database, mongo_url: str, port: int
) -> AsyncIterator[Scene]:
    """A server with some room on its disk."""
    url = f"http://127.0.0.1:{port}"
    flags = ("--insecure-no-auth", "--port", str(port), "--database-url", mongo_url)
    within = (*MOUNT, MOUNTED, "sh") if kind is SmallDisk else ()
    async with (
        server_process(folder, *flags, "--database-name", database.db.name, within=within) as process,
        participants(url, "ue-1", "ue-2") as clients,
        ValServer(url, listen=("127.0.0.1", 0)) as val,
    ):
        await val.store_model("large", {"w": 0 * ONES}, services=[SERVICE])
        yield Scene(url, kind(process.pid, folder), folder / "log", val, clients)


@pytest.fixture(params=[SmallDisk, SizeLimit])
async def it(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: Database,
    mongo_url: str,
    unused_tcp_port: int,
) -> AsyncIterator[Scene]:
    """The scene, in each way to fill a disk."""
    if request.param is SmallDisk and not may_mount(tmp_path):
        pytest.skip("this user may not mount a file system in a namespace of its own")
    async with scene(request.param, tmp_path, database, mongo_url, unused_tcp_port) as found:
        yield found


def check_refusal(answer: tuple[int, Any, Any], folder: str) -> None:
    """The sender is told to come again, and nothing of the server's inside."""
    status, problem, headers = answer
    assert (status, headers["Content-Type"]) == (503, "application/problem+json")
    assert 0 < int(headers["Retry-After"]) <= 30
    assert problem["detail"] == "the server has no room for files now"
    assert folder not in json.dumps(problem)
    assert "Errno" not in json.dumps(problem)


async def test_uploads_to_a_full_disk(it: Scene) -> None:
    """Whoever sends a model or an update is told to come again; nothing is left in the way, and all else works."""
    training = await it.begin()
    await all_asked(it.clients)
    it.disk.fill()
    client = it.clients[0]
    address = f"{it.url}/aimle-artifacts/v1/models/large"
    for answer in (await client.put(update(ONES)), await client.put(save({"w": ONES}), address)):
        check_refusal(answer, str(it.log.parent))
    assert it.unfinished() == []
    await it.works()
    assert (await training.status()).state == "ROUND_RUNNING"
    it.disk.free()
    await it.upload()
    await it.report()
    await it.finish(training)


async def test_aggregation_on_a_full_disk(it: Scene) -> None:
    """A round whose model has no room waits, and counts once there is some: no update is lost."""
    training = await it.begin()
    await all_asked(it.clients)
    await it.upload()
    it.disk.fill()
    await it.report()
    await it.waits_for_room()
    assert it.unfinished() == []
    assert (await training.status()).state == "AGGREGATING"
    await it.works()
    it.disk.free()
    await it.finish(training)


async def test_a_training_that_has_no_room_to_begin(it: Scene) -> None:
    """Where its first model cannot be fetched a training waits, and nobody is asked for a round before it is here."""
    it.disk.fill()
    training = await it.begin()
    await it.waits_for_room()
    assert it.unfinished() == []
    assert [client.rounds for client in it.clients] == [0, 0]
    await it.works()
    it.disk.free()
    await all_asked(it.clients)
    await it.upload()
    await it.report()
    await it.finish(training)


async def test_a_training_that_waits_for_room_can_be_cancelled(it: Scene) -> None:
    """The VAL server need not wait with it; it is told the end, with its reason."""
    it.disk.fill()
    training = await it.begin()
    await it.waits_for_room()
    await training.cancel()
    end = (await events_of(training))[-1]
    assert (end.state, (await training.status()).state) == ("CANCELLED", "CANCELLED")
    assert (await training.status()).reason

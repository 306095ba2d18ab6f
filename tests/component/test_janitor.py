"""What the janitor removes from the disk, and what it leaves to those who need it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from aimle_client.val import Objective, ValServer
from aimle_server.hfl.folders import Folders
from aimle_server.janitor import FILES_AGE, UPLOAD_AGE, Janitor
from ml_repository.database import Database
from ml_repository.repository import Repository
from sbi.clock import Clock
from sbi.spool import Spool
from tests.support import eventually
from tests.support_participant import participants, update
from tests.support_training import begin, serving, val_server

LEASE = 0.3


class Hasty(Clock):
    """The real time, in which nobody sleeps for long."""

    async def sleep(self, seconds: float) -> None:
        """Return soon."""
        await asyncio.sleep(min(seconds, 0.02))


@asynccontextmanager
async def cleaning(database: Database, data: Path) -> AsyncIterator[None]:
    """A janitor at work on this data directory, over and over again."""
    clock = Hasty()
    repository = await Repository.open(database, clock, lambda: "id")
    spools, folders = [Spool(data / "spool" / "models", 1000)], Folders(data / "trainings")
    janitor = Janitor(repository, spools, folders, clock, LEASE)
    await janitor.start()
    yield
    await janitor.stop()


def make_old(path: Path, seconds: float) -> None:
    """As if nobody had used it for so long."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def left_by_a_training(data: Path, training_id: str) -> Path:
    """Files that nobody has touched for longer than the janitor waits."""
    directory = data / "trainings" / training_id
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model-1.safetensors").write_bytes(b"a model")
    make_old(directory, FILES_AGE + LEASE + 1)
    return directory


async def test_abandoned_uploads_go(database: Database, tmp_path: Path) -> None:
    """An unfinished upload stays for its sender to go on with, but not for ever."""
    spool = tmp_path / "spool" / "models"
    spool.mkdir(parents=True)
    abandoned, recent = spool / "abandoned.part", spool / "recent.part"
    for path in (abandoned, recent):
        path.write_bytes(b"half of it")
    make_old(abandoned, UPLOAD_AGE + 1)
    async with cleaning(database, tmp_path):
        await eventually(lambda: not abandoned.exists())
        assert recent.exists()


async def test_files_of_trainings(database: Database, tmp_path: Path) -> None:
    """Files go of a training that ended, is unknown or driven elsewhere; others may still be needed here."""
    now = Clock().now()
    far, past = now + timedelta(hours=1), now - timedelta(hours=1)
    documents = {
        "ended": {"_open": False, "_lease_until": far},
        "driven elsewhere": {"_open": True, "_lease_until": far},
        "driven here": {"_open": True, "_lease_until": far},
        "waiting": {"_open": True, "_lease_until": past},
    }
    await database["trainings"].insert_many([{"_id": name, **each} for name, each in documents.items()])
    directories = {name: left_by_a_training(tmp_path, name) for name in (*documents, "unknown")}
    make_old(directories["driven here"], FILES_AGE - 60)
    gone = [directories[name] for name in ("ended", "driven elsewhere", "unknown")]
    async with cleaning(database, tmp_path):
        await eventually(lambda: not any(directory.exists() for directory in gone))
        assert directories["driven here"].exists()
        assert directories["waiting"].exists()


async def test_files_in_use_stay(mongo_url: str, database: Database, tmp_path: Path) -> None:
    """However long a round lasts, another worker's janitor leaves the files of its training alone."""
    settings = {"server.data_dir": str(tmp_path), "hfl.lease": LEASE}
    async with (
        serving(mongo_url, database, settings) as server,
        val_server(server) as val,
        participants(server.url, "ue-1") as (client,),
    ):
        training = await begin(val, members=["ue-1"], objective=Objective(max_epochs=1))
        await client.asked()
        used = left_by_a_training(tmp_path, training.id)
        await eventually(lambda: used.stat().st_mtime > time.time() - 60)
        stale = left_by_a_training(tmp_path, "unknown")
        async with cleaning(database, tmp_path):
            await eventually(lambda: not stale.exists())
        assert (await client.call("GET", client.model_url))[0] == 200
        assert (used / "model-1.safetensors").exists()


async def test_files_of_a_training_that_ended_elsewhere(
    mongo_url: str, database: Database, tmp_path: Path
) -> None:
    """A server that comes back after its training went on at another one keeps nothing of it."""
    settings = {"server.data_dir": str(tmp_path), "hfl.lease": LEASE}
    async with (
        serving(mongo_url, database, {"hfl.lease": LEASE}) as other,
        participants(other.url, "ue-1") as (client,),
        ValServer(other.url) as val,
    ):
        async with serving(mongo_url, database, settings) as server, val_server(server) as first:
            training = await begin(first, members=["ue-1"], objective=Objective(max_epochs=1))
            await client.asked()
        await client.asked(2)
        assert client.notif_uri.startswith(other.url)
        await client.participate(update(np.ones(4, np.float32)))
        await client.asked(3)
        assert await client.notify() == 204
        assert (await val.training(training.id).wait(0.05)).state == "COMPLETED"
        directory = tmp_path / "trainings" / training.id
        assert list(directory.iterdir())
        make_old(directory, FILES_AGE + LEASE + 1)
        async with serving(mongo_url, database, settings, clock=Hasty()):
            await eventually(lambda: not directory.exists())

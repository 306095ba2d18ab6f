"""What the janitor removes from the disk."""

import os
from pathlib import Path

from aimle_server.janitor import UPLOAD_AGE, Janitor
from ml_repository.database import Database
from ml_repository.repository import Repository
from sbi.spool import Spool
from tests.support import ManualClock, eventually


async def test_abandoned_uploads_go(database: Database, tmp_path: Path) -> None:
    """An unfinished upload stays for its sender to go on with, but not for ever."""
    clock = ManualClock()
    repository = await Repository.open(database, clock, lambda: "id")
    abandoned, recent = tmp_path / "abandoned.part", tmp_path / "recent.part"
    for path in (abandoned, recent):
        path.write_bytes(b"half of it")
    written = recent.stat().st_mtime - UPLOAD_AGE - 1
    os.utime(abandoned, (written, written))
    janitor = Janitor(repository, [Spool(tmp_path, 1000)], clock)
    await janitor.start()
    await eventually(lambda: not abandoned.exists())
    assert recent.exists()
    await janitor.stop()

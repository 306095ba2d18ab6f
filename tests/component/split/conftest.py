"""What tests of pipelines at work have in common."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ml_repository.database import Database


@pytest.fixture
async def world(mongo_url: str, database: Database, tmp_path: Path) -> AsyncIterator[Any]:
    """A `World` of tests.support_split_world, with three nodes."""
    from tests.support_split_world import a_world  # needs the extra `split`

    settings = {"database.url": mongo_url, "database.name": database.db.name}
    async with a_world(settings, tmp_path) as made:
        yield made

"""kill -9 of the server in the middle of a task transfer: the task has one owner, who knows it (TS 23.482 8.6)."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from aimle_client.errors import AimleClientError
from aimle_client.runtime.giving import Transferred
from aimle_client.val import ValServer
from ml_repository.database import Database
from tests.support import eventually
from tests.support_process import Server
from tests.support_task_transfer import Walk, stepped, undisturbed, walkers, walking

pytestmark = pytest.mark.faults

MOMENTS = [
    (when, point, direct)
    for point in ("agreed", "state", "moved", "handed over")
    for when in ("before", "after")
    for direct in (True, False)
    if point != "state" or not direct
]


@pytest.mark.parametrize(("when", "point", "direct"), MOMENTS)
async def test_a_server_that_dies_during_the_transfer(
    mongo_url: str, database: Database, tmp_path: Path, when: str, point: str, direct: bool
) -> None:
    """Source and history agree on who has the task; it is done once, and the model is the undisturbed one."""
    server = Server.on(tmp_path, mongo_url, database)
    await server.start(when, point, "1")
    trainers = {"ue-1": Walk(), "ue-2": Walk()}
    try:
        async with walkers(server.url, trainers) as clients, ValServer(server.url) as val:
            training = await walking(val, "ue-1")
            await stepped(trainers["ue-1"])
            giving = asyncio.create_task(clients["ue-1"].transfer(direct=direct))
            await server.has_died()
            await server.start()
            [outcome] = await asyncio.gather(giving, return_exceptions=True)
            assert isinstance(outcome, Transferred | AimleClientError), outcome
            for trainer in trainers.values():
                trainer.hurry.set()

            async def ended() -> bool:
                return (await val.training_status(training.id)).terminal

            await eventually(ended, timeout=25)
            status = await val.training_status(training.id)
            assert (status.state, status.reason) == ("COMPLETED", "the maximum number of epochs is reached")
            has_moved = isinstance(outcome, Transferred)
            if point == "handed over" or (when, point) == ("after", "moved"):
                assert has_moved, outcome
            assert [(move.source, move.target) for move in status.moves] == [("ue-1", "ue-2")] * has_moved
            assert status.history[0].participants == 1
            model = await val.download_model(str(status.output_model_id))
            np.testing.assert_array_equal(model["w"], undisturbed())
    finally:
        await server.kill()

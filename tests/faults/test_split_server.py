"""The server that runs a pipeline is killed, or stopped: the pipeline goes on, and the next server looks after it."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.split.node import ProcessingNode
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.val import ValServer
from ml_repository.database import Database
from tests.support import Listener, eventually
from tests.support_onnx import inputs, residual, run
from tests.support_process import server_process
from tests.support_split_pipelines import PIPELINES, stage

pytestmark = [pytest.mark.faults, pytest.mark.split]

TAKEN_OVER = 60.0
"""Seconds; a lease has to run out first."""


async def works(profile: Any) -> None:
    """Its outputs are the whole model's."""
    frame, (head, tail) = inputs(residual()), (profile["headEp"]["uri"], profile["tailEp"]["uri"])
    async with asyncio.timeout(20), SplitPipeline(head, tail) as pipeline:
        found = await pipeline.infer(frame)
    for name, values in run(residual(), frame).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


async def stages_at(http: aiohttp.ClientSession, node: ProcessingNode) -> int:
    """How many stages a node has."""
    async with http.get(f"{node.uri}/aimle-split-node/v1/stages") as answer:
        return len((await answer.json())["stages"])


def elsewhere(val: Listener, profile: Any) -> list[Any]:
    """The profiles with another head that the requestor was told of."""
    told = [body["splitOpPipelineInfo"]["splitOpProfile"] for body in val.bodies]
    return [one for one in told if one["headEp"] != profile["headEp"]]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
async def test_a_server_that_is_killed(
    mongo_url: str, database: Database, tmp_path: Path, unused_tcp_port: int, how: signal.Signals
) -> None:
    """Without it the pipeline works; with the next one too, which ends what the dead one has left at the node."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    where = ("--database-url", mongo_url, "--database-name", database.db.name, "--port", str(unused_tcp_port))
    flags = (*where, "--insecure-no-auth", "--targets-allow", "127.0.0.0/8")
    (tmp_path / "net.onnx").write_bytes(residual())
    async with AsyncExitStack() as stack:
        val = await stack.enter_async_context(Listener())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        async with server_process(tmp_path, *flags) as server:
            async with ValServer(url) as owner:
                await owner.store_model("net", services=["any"], info={"interopInfo": "ONNX"})
                await owner.upload_model("net", tmp_path / "net.onnx")
            node = await stack.enter_async_context(ProcessingNode(url, models=["net"], insecure_no_auth=True))
            body = {
                "requestorId": "val",
                "notifUri": val.url("/"),
                "splitOpRequirements": {"stageInfo": [stage(node.uri, model="net")]},
            }
            async with http.post(url + PIPELINES, json=body) as answer:
                profile = (await answer.json())["splitOpProfile"]
            await works(profile)
            server.send_signal(how)
            await server.wait()
        await works(profile)
        async with server_process(tmp_path, *flags):
            await eventually(lambda: elsewhere(val, profile), TAKEN_OVER)
            await works(elsewhere(val, profile)[-1])

            async def one_stage() -> bool:
                return await stages_at(http, node) == 1

            await eventually(one_stage)

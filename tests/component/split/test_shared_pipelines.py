"""Pipelines that several VAL servers use: found, joined, followed and left (TS 23.482 8.14.2.8), with the SDK."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.errors import Conflict, NotFound
from aimle_client.val import ValServer
from tests.support import eventually
from tests.support_onnx import inputs, residual, run
from tests.support_split_world import NODES, World

pytestmark = pytest.mark.split

FRAMES = [inputs(residual(), seed=number) for number in range(200)]


@asynccontextmanager
async def a_val_server(world: World, name: str) -> AsyncIterator[ValServer]:
    """One that listens."""
    credentials = world.server.credentials[name]
    async with ValServer(world.server.url, credentials, listen=("127.0.0.1", 0)) as val:
        yield val


async def clients(world: World, pipeline_id: str) -> int:
    """How many use the pipeline, its owner included."""
    _, answer, _ = await world.call(
        "PUT", f"/aimle-split-join/v1/pipelines/{pipeline_id}/client", {"requestorId": "x"}
    )
    return answer["splitOpProfile"]["aimle"].get("clients", 1)


async def test_another_one_uses_it(world: World) -> None:
    """Who finds it has joined it, gets the results of its own inputs also when it moves, and may leave it again."""
    async with a_val_server(world, "val-1") as owner, a_val_server(world, "val-2") as other:
        uris = [world.nodes[name].uri for name in NODES]
        made = await owner.create_pipeline("net", uris, multi_client=True)
        found = await other.find_pipeline("net")
        assert found.id == made.id
        assert await clients(world, made.id) == 2
        used = found.profile["aimle"]["execution"]["parts"][0]["node"]
        dying = next(one for one in world.nodes.values() if one.uri == used)
        results = []
        async with asyncio.timeout(60), found.open() as stream:
            async for result in stream.map(FRAMES):
                results.append(result["scores"])
                if len(results) == 20:
                    await dying.__aexit__(None, None, None)
        for frame, scores in zip(FRAMES, results, strict=True):
            np.testing.assert_allclose(scores, run(residual(), frame)["scores"], rtol=0, atol=1e-5)
        assert used not in [part["node"] for part in found.profile["aimle"]["execution"]["parts"]]
        with pytest.raises(NotFound):
            await found.delete()
        await found.leave()
        assert await clients(world, made.id) == 1
        await made.delete()


async def test_what_is_for_one_cannot_be_joined(world: World) -> None:
    """Its owner may, which changes nothing; for others it is not there."""
    async with a_val_server(world, "val-1") as owner, a_val_server(world, "val-2") as other:
        made = await owner.create_pipeline("net", [world.nodes["edge"].uri])
        assert (await owner.join_pipeline(made.id)).id == made.id
        with pytest.raises(NotFound):
            await other.join_pipeline(made.id)
        with pytest.raises((NotFound, Conflict)):
            await other.join_pipeline("no-such-pipeline")


async def test_what_was_found_is_followed(world: World) -> None:
    """A pipeline that the VAL server had made before, and finds again, tells when it moves."""
    async with a_val_server(world, "val-1") as val:
        await val.create_pipeline("net", [world.nodes[name].uri for name in ("ue", "edge")])
        found = await val.find_pipeline("net")
        used = found.profile["aimle"]["execution"]["parts"][0]["node"]
        async with asyncio.timeout(60), found.open() as stream:
            await stream.infer(FRAMES[0])
            await next(one for one in world.nodes.values() if one.uri == used).__aexit__(None, None, None)
            await stream.infer(FRAMES[0])
        await eventually(
            lambda: used not in [p["node"] for p in found.profile["aimle"]["execution"]["parts"]]
        )


async def test_a_pipeline_that_is_deleted(world: World) -> None:
    """Who uses it is told, owner or not: what waits for a result, and what comes later, ends with an error."""
    async with (
        asyncio.timeout(30),
        a_val_server(world, "val-1") as owner,
        a_val_server(world, "val-2") as other,
    ):
        made = await owner.create_pipeline("net", [world.nodes["edge"].uri], multi_client=True)
        joined = await other.join_pipeline(made.id)
        async with made.open() as own, joined.open() as stream:
            await stream.infer(FRAMES[0])
            await made.delete()
            for each in (own, stream):  # the other VAL server is told a moment later
                with pytest.raises(NotFound, match="deleted"):
                    await each.infer(FRAMES[0])
        with pytest.raises(NotFound, match="deleted"):
            await joined.changed()
        async with made.open() as again:
            with pytest.raises(NotFound, match="deleted"):
                await again.infer(FRAMES[0])

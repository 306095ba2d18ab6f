"""Nothing piles up: whoever does not take results keeps others from sending more, and nothing is lost by it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from aimle_client.split.frames import Frame, pack_tensors
from aimle_client.split.pipeline import SplitPipeline
from aimle_client.split.results import Results
from aimle_client.split.stage import RESULTS, ROOM
from aimle_server.split.cutting import cut, cut_points
from tests.support import eventually
from tests.support_onnx import chain, inputs
from tests.support_split import Server, nodes, server

pytestmark = pytest.mark.split

STREAM = bytes(16)
FRAMES = 300
SAMPLES = 40_000
"""Of a frame, whose inputs are about a megabyte then: more than sockets keep."""


@pytest.fixture
async def aimle() -> AsyncIterator[Server]:
    """The AIMLE server's side."""
    async with server() as running:
        yield running


async def test_results_that_nobody_takes_stop_the_pipeline(aimle: Server) -> None:
    """Few frames wait at the tail, and as few before each node; once results are taken, all come, in order."""
    payload = pack_tensors({"x": np.zeros((SAMPLES, 6), np.float32)})
    async with nodes(2) as at:
        head, tail = await aimle.pipeline(at, cut(chain(), cut_points(chain())[:1]))

        async def send() -> None:
            async with aimle.session.ws_connect(head["inputUri"]) as socket:
                for number in range(FRAMES):
                    await socket.send_bytes(Frame(STREAM, number, payload).pack())
                await socket.receive()

        async def done() -> list[int]:
            answers = [await aimle.call(node, "GET", "/stages") for node in at]
            return [answer[1]["stages"][0]["frames"] for answer in answers]

        sending = asyncio.create_task(send())
        before, after = await steady(done)
        assert after == RESULTS + ROOM + 2  # and one on its way into each
        assert before < after + 6 * ROOM
        async with aimle.session.ws_connect(f"{tail['resultsUri']}?stream={STREAM.hex()}") as socket:
            async with asyncio.timeout(20):
                numbers = [Frame.unpack(await socket.receive_bytes()).sequence for _ in range(FRAMES)]
        assert numbers == list(range(FRAMES))
        assert await done() == [FRAMES, FRAMES]
        sending.cancel()


async def steady(measure: Any) -> Any:
    """What is measured, once it has been the same for half a second."""
    seen: list[Any] = []

    async def same() -> bool:
        seen.append(await measure())
        await asyncio.sleep(0.05)
        return len(seen) > 10 and all(value == seen[-1] for value in seen[-10:])

    await eventually(same, timeout=30)
    return seen[-1]


async def test_whoever_sends_waits(aimle: Server) -> None:
    """With as many frames under way as the window holds, the next one is sent when a result has come."""
    pipeline = SplitPipeline("http://127.0.0.1:1/inputs", "http://127.0.0.1:1/results", window=3)
    async with nodes(1) as [node], pipeline:
        for _ in range(3):
            await pipeline.submit(inputs(chain()))
        fourth = asyncio.create_task(pipeline.submit(inputs(chain())))
        await asyncio.sleep(0)
        assert not fourth.done()
        stage = await aimle.load(node, chain())
        pipeline.move(stage["inputUri"], stage["resultsUri"])
        async with asyncio.timeout(5):
            await (await fourth)


async def test_results_of_who_went_away_are_dropped() -> None:
    """What nobody subscribes to does not hold others up for ever; what somebody subscribes to waits for them."""
    results = Results(2, keep=0.05)
    other = bytes(15) + b"1"
    mine = results.subscribe(STREAM)
    waiting = asyncio.ensure_future(anext(mine))
    async with asyncio.timeout(5):
        for number in range(3):
            await results.send(Frame(STREAM, number, b""))
        assert (await waiting).sequence == 0
        blocked = asyncio.create_task(results.send(Frame(other, 0, b"")))
        await asyncio.wait([blocked], timeout=0.2)
        assert not blocked.done()
        assert [(await anext(mine)).sequence for _ in range(2)] == [1, 2]
        for number in range(4):
            await results.send(Frame(other, number, b""))
        assert await results.take(other, 0, 0) is None
    await mine.aclose()

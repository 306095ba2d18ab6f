"""How fast a pipeline is for somebody who uses it."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from aimle_client.errors import InferenceFailed
from aimle_client.split.frames import MAX_PAYLOAD
from aimle_client.split.part import DTYPES, MOST_DIMENSIONS
from aimle_client.split.pipeline import SplitPipeline, Tensors
from sbi.errors import Conflict, InvalidRequest

MEASURE_SECONDS = 60.0
"""For a whole measurement."""


async def measure_pipeline(
    pipeline: SplitPipeline, tensors: Sequence[Mapping[str, Any]], frames: int
) -> tuple[float, float]:
    """Seconds that one frame takes alone, the median of so many, and frames per second when always one waits.

    Args:
        pipeline: not entered yet.
        tensors: of a frame, each a TensorType in wire shape.
        frames: how many are sent one by one, and how many at once.

    Raises:
        InvalidRequest: there are no such tensors.
        Conflict: the pipeline does not answer, or refuses such frames.
    """
    frame = _zeros(tensors)
    try:
        async with asyncio.timeout(MEASURE_SECONDS), pipeline:
            await pipeline.infer(frame)  # the first one opens the connections
            latencies = [await _seconds(pipeline, frame) for _ in range(frames)]
            arrivals = [time.monotonic() async for _ in pipeline.map([frame] * (frames + 1))]
    except TimeoutError as error:
        raise Conflict("the pipeline does not answer", cause="PIPELINE_UNREACHABLE") from error
    except InferenceFailed as error:
        raise Conflict(str(error), cause="INFERENCE_FAILED") from error
    return median(latencies), frames / max(arrivals[-1] - arrivals[0], 1e-9)


async def _seconds(pipeline: SplitPipeline, frame: Tensors) -> float:
    began = time.monotonic()
    await pipeline.infer(frame)
    return time.monotonic() - began


def _zeros(tensors: Sequence[Mapping[str, Any]]) -> Tensors:
    for number, tensor in enumerate(tensors):
        if tensor["dtype"] not in DTYPES.values():
            raise InvalidRequest.of(f"/tensors/{number}/dtype", f"is none of {', '.join(DTYPES.values())}")
        if len(tensor["shape"]) > MOST_DIMENSIONS:
            raise InvalidRequest.of(f"/tensors/{number}/shape", f"has more than {MOST_DIMENSIONS} dimensions")
    sizes = [math.prod(tensor["shape"]) * np.dtype(tensor["dtype"]).itemsize for tensor in tensors]
    if sum(sizes) > MAX_PAYLOAD:
        raise InvalidRequest.of("/tensors", f"have more than the {MAX_PAYLOAD} bytes of a frame")
    return {tensor["name"]: np.zeros(tensor["shape"], tensor["dtype"]) for tensor in tensors}

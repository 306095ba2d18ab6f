"""AIMLE_SplitNode, our extension: what a node of a split operation pipeline is asked (TS 23.482 8.14).

The AIMLE server has it load parts, connect them and measure, with a token. Inputs and results need none: the addresses
of a stage's inputs and results are unguessable. Both are WebSockets of frames (`aimle_client.split.frames`), or one
request for each frame.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from aimle_client.split.frames import MAX_MESSAGE, MAX_PAYLOAD, STREAM_BYTES, Frame, FrameError
from aimle_client.split.measurement import measure_pipeline
from aimle_client.split.runtime import NodeRuntime
from aimle_client.split.stage import Stage
from aimle_client.split.tasks import either
from sbi.api import Api, Call, Operation, Query, created, no_content, ok
from sbi.body import read_binary
from sbi.errors import Conflict, InvalidRequest, NotFound, Unavailable
from schemas.base import Text
from schemas.common import UintegerText
from schemas.split_node import (
    LinkProfile,
    MeasurementRequest,
    NextStage,
    NodeStatus,
    PartProfile,
    PipelineProfile,
    Probe,
    StageRequest,
    StageStatus,
)

RUNTIME = web.AppKey("split_runtime", NodeRuntime)

FRAMES = "application/octet-stream"

MAX_PART = 2 * 2**30
"""Bytes of the largest part that is profiled; protobuf has no larger ones."""

RESULT_SECONDS = 20.0
"""How long a request waits for a result that is not there yet, or for room."""

SEND_SECONDS = 60.0
"""A subscriber that takes a result in more is gone; it gets what is missing by sending its inputs again."""


_MOST_DIGITS = 18


async def load(call: Call) -> web.Response:
    """Start a stage."""
    body = call.body
    stage = await call[RUNTIME].load(
        call.caller.subject, body["modelUri"], body.get("sha256"), body.get("batch", 1)
    )
    return created(_wire(call, stage), f"{call.base_url}/stages/{stage.id}")


async def status(call: Call) -> web.Response:
    """All stages of the caller."""
    return ok({"stages": [_wire(call, stage) for stage in call[RUNTIME].stages(call.caller.subject)]})


async def read(call: Call) -> web.Response:
    """One stage."""
    return ok(_wire(call, _own(call)))


async def connect(call: Call) -> web.Response:
    """Say where a stage sends its frames."""
    await call[RUNTIME].connect(_own(call), call.body["uri"])
    return no_content()


async def unload(call: Call) -> web.Response:
    """End a stage."""
    await call[RUNTIME].unload(_own(call))
    return no_content()


async def profile(call: Call) -> web.Response:
    """Run the part in the body, and say how long it takes."""
    content = await read_binary(call.request, MAX_PART)
    seconds, runs = await call[RUNTIME].profile(content, call.query.get("batch", 1))
    return ok({"seconds": seconds, "runs": runs})


async def new_probe(call: Call) -> web.Response:
    """An address for another node to measure its way to this one."""
    return ok({"uri": f"{call.base_url}/probes/{call[RUNTIME].new_probe()}"})


async def measure_link(call: Call) -> web.Response:
    """Measure the way to another node."""
    found = await call[RUNTIME].measure_link(call.body["uri"])
    return ok({"bytesPerSecond": found.bytes_per_s, "latency": found.latency_s})


async def measure(call: Call) -> web.Response:
    """Use a pipeline from here, and say how long it takes."""
    ends = call.body["pipeline"]
    pipeline = call[RUNTIME].pipeline(ends["headUri"], ends["tailUri"])
    latency, rate = await measure_pipeline(pipeline, call.body["tensors"], call.body.get("frames", 10))
    return ok({"latency": latency, "framesPerSecond": rate})


async def answer_probe(call: Call) -> web.StreamResponse:
    """A WebSocket that answers each message with an empty one."""
    call[RUNTIME].check_probe(call.path("key"))
    socket = await _upgraded(call)
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(b"")
    return socket


async def stream_inputs(call: Call) -> web.StreamResponse:
    """A WebSocket of frames for a stage; it is read when there is room, and closed when the stage ends."""
    stage = call[RUNTIME].at_work(call.path("stageId"))
    return await _while_at_work(call, stage, lambda socket: _take_frames(socket, stage))


async def stream_results(call: Call) -> web.StreamResponse:
    """A WebSocket of the results of one stream."""
    stage = call[RUNTIME].at_work(call.path("stageId"))
    stream = _stream(call.query["stream"])
    return await _while_at_work(call, stage, lambda socket: _give_frames(socket, stage, stream))


async def put_input(call: Call) -> web.Response:
    """One frame for a stage."""
    stage = call[RUNTIME].at_work(call.path("stageId"))
    payload = await read_binary(call.request, MAX_PAYLOAD)
    try:
        async with asyncio.timeout(RESULT_SECONDS):
            await stage.put(Frame(_stream(call.path("streamId")), _sequence(call), payload))
    except TimeoutError as error:
        raise Unavailable("earlier frames are not done yet") from error
    return no_content()


async def get_result(call: Call) -> web.Response:
    """One result, once."""
    stage = call[RUNTIME].at_work(call.path("stageId"))
    stream = _stream(call.path("streamId"))
    frame = await stage.results.take(stream, _sequence(call), RESULT_SECONDS)
    if frame is None:
        raise NotFound("there is no such result, or not yet")
    if frame.failed:
        raise Conflict(frame.payload.decode(errors="replace"), cause="INFERENCE_FAILED")
    return web.Response(body=frame.payload, content_type=FRAMES)


async def _take_frames(socket: web.WebSocketResponse, stage: Stage) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            break
        await stage.put(Frame.unpack(message.data))


async def _give_frames(socket: web.WebSocketResponse, stage: Stage, stream: bytes) -> None:
    async def send() -> None:
        async with aclosing(stage.results.subscribe(stream)) as results:
            async for frame in results:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_bytes(frame.pack())

    async def until_closed() -> None:
        async for _ in socket:
            pass

    await either(send(), until_closed())


async def _while_at_work(
    call: Call, stage: Stage, work: Callable[[web.WebSocketResponse], Awaitable[None]]
) -> web.WebSocketResponse:
    socket = await _upgraded(call)

    async def working() -> None:
        await work(socket)

    try:
        await either(working(), stage.closed.wait())
    except (FrameError, ConnectionError, TimeoutError):
        await socket.close(code=WSCloseCode.PROTOCOL_ERROR)
    await socket.close(code=WSCloseCode.GOING_AWAY)
    return socket


async def _upgraded(call: Call) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(timeout=1.0, compress=False, max_msg_size=MAX_MESSAGE)
    if not socket.can_prepare(call.request):
        raise InvalidRequest.of("Upgrade", "this address is a WebSocket")
    await socket.prepare(call.request)
    return socket


def _own(call: Call) -> Stage:
    return call[RUNTIME].own(call.caller.subject, call.path("stageId"))


def _stream(text: str) -> bytes:
    try:
        stream = bytes.fromhex(text)
    except ValueError:
        stream = b""
    if len(stream) != STREAM_BYTES:
        raise InvalidRequest.of("stream", f"not {STREAM_BYTES} bytes in hexadecimal")
    return stream


def _sequence(call: Call) -> int:
    digits = call.path("sequence")
    if len(digits) > _MOST_DIGITS:
        raise NotFound("no sequence number is as large")
    return int(digits)


def _wire(call: Call, stage: Stage) -> dict[str, Any]:
    address = f"{call.base_url}/stages/{stage.id}"
    found = {
        "stageId": stage.id,
        "state": "BROKEN" if stage.broken else "RUNNING",
        "inputUri": f"{address}/inputs",
        "resultsUri": f"{address}/results",
        "frames": stage.frames,
    }
    return found if stage.seconds_per_frame is None else {**found, "secondsPerFrame": stage.seconds_per_frame}


API = Api(
    name="AIMLE_SplitNode",
    spec="AIMLE",
    version="1.0.0",
    base_path="/aimle-split-node/v1",
    extension=True,
    operations=(
        Operation(
            "POST",
            "/stages",
            "LoadStage",
            load,
            body=StageRequest(),
            answers={201: StageStatus()},
            location=True,
            summary="Fetch a part of a model and run it.",
        ),
        Operation(
            "GET", "/stages", "GetStages", status, answers={200: NodeStatus()}, summary="The caller's stages."
        ),
        Operation(
            "GET", "/stages/{stageId}", "GetStage", read, answers={200: StageStatus()}, summary="A stage."
        ),
        Operation(
            "PUT",
            "/stages/{stageId}/next",
            "ConnectStage",
            connect,
            body=NextStage(),
            summary="Send what comes out of a stage to the inputs of another one.",
        ),
        Operation("DELETE", "/stages/{stageId}", "UnloadStage", unload, summary="End a stage."),
        Operation(
            "POST",
            "/profiles",
            "ProfilePart",
            profile,
            streams=FRAMES,
            query=(Query("batch", field=UintegerText()),),
            answers={200: PartProfile()},
            summary="Run the ONNX model in the body, without keeping it, and say how long it takes.",
        ),
        Operation(
            "POST",
            "/probes",
            "OpenProbe",
            new_probe,
            answers={200: Probe()},
            summary="An address at which another node measures its way to this one.",
        ),
        Operation(
            "GET",
            "/probes/{key}",
            "AnswerProbe",
            answer_probe,
            answers={101: None},
            capability=True,
            summary="A WebSocket that answers each message with an empty one.",
        ),
        Operation(
            "POST",
            "/links",
            "MeasureLink",
            measure_link,
            body=Probe(),
            answers={200: LinkProfile()},
            summary="Measure the way to another node's probe.",
        ),
        Operation(
            "POST",
            "/measurements",
            "MeasurePipeline",
            measure,
            body=MeasurementRequest(),
            answers={200: PipelineProfile()},
            summary="Use a pipeline from this node, and say how long it takes.",
        ),
        Operation(
            "GET",
            "/stages/{stageId}/inputs",
            "StreamInputs",
            stream_inputs,
            answers={101: None},
            capability=True,
            summary="A WebSocket that takes frames.",
        ),
        Operation(
            "PUT",
            "/stages/{stageId}/inputs/{streamId}/{sequence:[0-9]+}",
            "PutInput",
            put_input,
            streams=FRAMES,
            capability=True,
            summary="One frame: its tensors as a safetensors file.",
        ),
        Operation(
            "GET",
            "/stages/{stageId}/results",
            "StreamResults",
            stream_results,
            query=(Query("stream", field=Text(), required=True),),
            answers={101: None},
            capability=True,
            summary="A WebSocket that gives the frames of one stream.",
        ),
        Operation(
            "GET",
            "/stages/{stageId}/results/{streamId}/{sequence:[0-9]+}",
            "GetResult",
            get_result,
            answers={200: None},
            streams=FRAMES,
            capability=True,
            summary="One result, once, waiting a while for it.",
        ),
    ),
)

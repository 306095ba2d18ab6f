"""AIMLE_HFLManagement, our extension to TS 29.482: what horizontal FL needs and the standard leaves out.

For VAL servers: training profiles and the state of trainings. For participants: the addresses of a round, whose
unguessable key is the permission; they are what START (8.20) and the HFL subscription (8.12) hand out, so that
a plain 3GPP client can use them without knowing this API.
"""

import asyncio
from functools import partial

from aiohttp import hdrs, web

from aimle_server.consumers.peers import RETRY_AFTER
from aimle_server.hfl.engine import NotDrivenHere
from aimle_server.hfl.handing_over import is_stored
from aimle_server.metrics import UPDATE_BYTES
from aimle_server.services import SERVICES
from sbi import zstd
from sbi.api import Api, Call, Handler, Operation, no_content, ok
from sbi.digests import SHA256, sha256
from sbi.errors import InvalidRequest, NotFound, PayloadTooLarge, Unavailable
from sbi.reduced import coding_of
from sbi.serve import send, send_file
from schemas.hfl_management import TrainingProfile, TrainingStatus
from schemas.hfl_report import HflReport
from schemas.task_transfer import HandOver

HFL_PATH = "/aimle-hfl/v1"
SAFETENSORS = "application/octet-stream"


async def put_profile(call: Call) -> web.Response:
    """How the caller wants trainings of a model to be run."""
    await call[SERVICES].profiles.put(call.caller.subject, call.path("mlModelId"), call.body)
    return ok(call.body)


async def get_profile(call: Call) -> web.Response:
    """The caller's training profile for a model."""
    found = await call[SERVICES].profiles.find(call.caller.subject, call.path("mlModelId"))
    if found is None:
        raise NotFound("there is no training profile for this model")
    return ok(found)


async def delete_profile(call: Call) -> web.Response:
    """Back to the server's defaults."""
    if not await call[SERVICES].profiles.remove(call.caller.subject, call.path("mlModelId")):
        raise NotFound("there is no training profile for this model")
    return no_content()


async def list_trainings(call: Call) -> web.Response:
    """The caller's latest trainings."""
    return ok(await call[SERVICES].status.find(call.caller))


async def get_training(call: Call) -> web.Response:
    """How one of the caller's trainings stands."""
    return ok(await call[SERVICES].status.get(call.caller, call.path("trainingId")))


def by_the_driver(handler: Handler) -> Handler:
    """The handler, answered by the process that drives the participant's training if that is another one."""

    async def answer(call: Call) -> web.StreamResponse:
        try:
            return await handler(call)
        except NotDrivenHere as error:
            return await call[SERVICES].peers.ask_holder(call.request, call.path("key"), None, error)

    return answer


@by_the_driver
async def get_model(call: Call) -> web.StreamResponse:
    """The model that the participant's round begins with, read from its file."""
    number, reports = _round(call), call[SERVICES].reports
    seat = reports.seat(call.path("key"), number)
    own = call.request.path.partition("/rounds/")[0].removesuffix("/model")
    update = f"{own}/rounds/{number}/update" if number else f"{own}/update"
    state = f"{own}/rounds/{seat.training.round}/state"
    links = [f'<{update}>; rel="aggregation"', f'<{state}>; rel="intermediate-state"']
    if is_stored(seat):
        links.append(f'<{state}>; rel="resume"')
    return await send_file(call.request, await reports.model(seat), {hdrs.LINK: ", ".join(links)})


@by_the_driver
async def put_update(call: Call) -> web.Response:
    """A participant's update, whole or from where the last attempt stopped."""
    services, key = call[SERVICES], call.path("key")
    # Where the address names no round, it is the one that runs now, not the one at the end of the upload.
    seat = services.reports.seat(key, _round(call))
    number = seat.training.round
    name = _upload_name(key, number)
    if (before := seat.driver.uploading.get(key, number)) != number:
        await services.update_spool.discard(_upload_name(key, before))
    seat.driver.uploading[key] = number
    try:
        most = await services.reports.most_bytes(seat)
        coding = coding_of(seat.training.profile)
        received = await services.update_spool.receive(name, call.request, limit=most, coding=coding)
    except PayloadTooLarge as error:
        await services.reports.offended(seat, error.detail)
        raise
    if received is not None:
        try:
            packed = call.request.headers.get(hdrs.CONTENT_ENCODING) == zstd.CODING
            uploaded = services.update_spool.take(name)
            await services.reports.update(key, number, uploaded, packed=packed)
        except NotDrivenHere as error:  # too late to pass it on: the body has been read
            raise Unavailable("the training was taken over meanwhile", retry_after=RETRY_AFTER) from error
        UPDATE_BYTES.inc(received.size)
    return no_content()


@by_the_driver
async def head_update(call: Call) -> web.Response:
    """How much of an unfinished upload is here."""
    seat = call[SERVICES].reports.seat(call.path("key"), _round(call))
    offset = call[SERVICES].update_spool.offset(_upload_name(call.path("key"), seat.training.round))
    return web.Response(headers={"Upload-Offset": str(offset)})


@by_the_driver
async def put_state(call: Call) -> web.Response:
    """Where a participant's task stands, whole or from where the last attempt stopped."""
    services, key, number = call[SERVICES], call.path("key"), _round_of(call)
    services.reports.seat(key, number)
    name = _upload_name(key, number)
    received = await services.state_spool.receive(name, call.request)
    if received is not None:
        path = services.state_spool.take(name)
        try:
            await services.handing_over.deposit(key, number, path, received.hashing.digest(SHA256).hex)
        except NotDrivenHere as error:  # too late to pass it on: the body has been read
            raise Unavailable("the training was taken over meanwhile", retry_after=RETRY_AFTER) from error
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
    return no_content()


@by_the_driver
async def get_state(call: Call) -> web.StreamResponse:
    """Where the participant's task stands, by whoever had it last."""
    services = call[SERVICES]
    found = await services.handing_over.state(call.path("key"), _round_of(call))
    return await send(call.request, partial(services.artifacts.read, found), found.size, sha256(found.sha256))


@by_the_driver
async def head_state(call: Call) -> web.StreamResponse:
    """How much of an unfinished upload is here; without one, as GET."""
    key, number = call.path("key"), _round_of(call)
    seat = call[SERVICES].reports.seat(key, number)
    offset = call[SERVICES].state_spool.offset(_upload_name(key, number))
    if offset or not is_stored(seat):
        return web.Response(headers={"Upload-Offset": str(offset)})
    return await get_state(call)


@by_the_driver
async def hand_over(call: Call) -> web.Response:
    """The participant's task is another client's from now on."""
    await call[SERVICES].handing_over.hand_over(call.path("key"), _round_of(call), call.body)
    return no_content()


@by_the_driver
async def notify(call: Call) -> web.Response:
    """A participant's HFL training notification; the address says of which round."""
    number = _round_of(call)
    attempt = call.request.query.get("attempt", "1")
    if not _is_number(attempt):
        raise InvalidRequest.of("attempt", "not a number")
    await call[SERVICES].reports.notify(call.path("key"), number, int(attempt), call.body)
    return no_content()


def _round(call: Call) -> int | None:
    """The round in the path; None where the path means the running one."""
    text = call.request.match_info.get("round")
    if text is None:
        return None
    if not _is_number(text):
        raise InvalidRequest.of("round", "not a round number")
    return int(text)


def _round_of(call: Call) -> int:
    number = _round(call)
    assert number is not None  # noqa: S101 - the route has it
    return number


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _upload_name(key: str, number: int) -> str:
    return f"{key}/{number}"


def _model(method: str, path: str, operation_id: str, summary: str) -> Operation:
    return Operation(
        method,
        path,
        operation_id,
        get_model,
        answers={200: None},
        streams=SAFETENSORS,
        capability=True,
        summary=summary,
    )


def _update(path: str, suffix: str) -> tuple[Operation, Operation]:
    return (
        Operation(
            "PUT",
            path,
            f"PutUpdate{suffix}",
            put_update,
            streams=SAFETENSORS,
            capability=True,
            summary="Send an update; with Content-Range, the rest of it.",
        ),
        Operation(
            "HEAD",
            path,
            f"GetUpdateOffset{suffix}",
            head_update,
            answers={200: None},
            capability=True,
            summary="How much of an unfinished upload is here (Upload-Offset).",
        ),
    )


def _state(method: str, handler: Handler, operation_id: str, answer: int, summary: str) -> Operation:
    return Operation(
        method,
        "/participants/{key}/rounds/{round}/state",
        operation_id,
        handler,
        answers={answer: None},
        streams=SAFETENSORS if method != "HEAD" else None,
        capability=True,
        summary=summary,
    )


API = Api(
    name="AIMLE_HFLManagement",
    spec="AIMLE",
    version="1.0.0",
    base_path=HFL_PATH,
    extension=True,
    operations=(
        Operation(
            "PUT",
            "/models/{mlModelId}/training-profile",
            "PutTrainingProfile",
            put_profile,
            body=TrainingProfile(),
            answers={200: TrainingProfile()},
            summary="Say how trainings of a model are to be run.",
        ),
        Operation(
            "GET",
            "/models/{mlModelId}/training-profile",
            "GetTrainingProfile",
            get_profile,
            answers={200: TrainingProfile()},
            summary="How trainings of a model are to be run.",
        ),
        Operation(
            "DELETE",
            "/models/{mlModelId}/training-profile",
            "DeleteTrainingProfile",
            delete_profile,
            summary="Go back to the server's defaults.",
        ),
        Operation(
            "GET",
            "/trainings",
            "ListTrainings",
            list_trainings,
            answers={200: TrainingStatus(many=True)},
            summary="The caller's latest trainings, newest first.",
        ),
        Operation(
            "GET",
            "/trainings/{trainingId}",
            "GetTraining",
            get_training,
            answers={200: TrainingStatus()},
            summary="How a training stands.",
        ),
        _model("GET", "/participants/{key}/model", "GetModel", "The running round's model."),
        _model("HEAD", "/participants/{key}/model", "HeadModel", "Size of the running round's model."),
        _model("GET", "/participants/{key}/rounds/{round}/model", "GetRoundModel", "A round's model."),
        _model(
            "HEAD", "/participants/{key}/rounds/{round}/model", "HeadRoundModel", "Size of a round's model."
        ),
        *_update("/participants/{key}/update", ""),
        *_update("/participants/{key}/rounds/{round}/update", "OfRound"),
        Operation(
            "POST",
            "/participants/{key}/rounds/{round}/notifications",
            "NotifyRound",
            notify,
            body=HflReport(),
            capability=True,
            summary="A client's HflTrngNotify of a round.",
        ),
        _state("PUT", put_state, "PutState", 204, "Leave the intermediate state of a task here."),
        _state(
            "GET", get_state, "GetState", 200, "The intermediate state of a task that is to be gone on with."
        ),
        _state(
            "HEAD",
            head_state,
            "GetStateOffset",
            200,
            "How much of an unfinished upload is here (Upload-Offset).",
        ),
        Operation(
            "POST",
            "/participants/{key}/rounds/{round}/hand-over",
            "HandOver",
            hand_over,
            body=HandOver(),
            capability=True,
            summary="Give a task to the target of a transfer (TS 23.482 8.6).",
        ),
    ),
)

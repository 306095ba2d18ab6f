"""AIMLE_SplitOpJoin, our extension: further clients of a pipeline (TS 23.482 8.14.2.8), for which there is no API."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Operation, no_content, ok
from schemas.split_pipeline import PipelineJoin, SplitOpPipelineCreateResp


async def join(call: Call) -> web.Response:
    """The caller uses the pipeline too."""
    return ok(await call[SERVICES].split_join.join(call.caller, call.path("splitOpPipelineId")))


async def leave(call: Call) -> web.Response:
    """The caller does not use it any more."""
    await call[SERVICES].split_join.leave(call.caller, call.path("splitOpPipelineId"))
    return no_content()


API = Api(
    name="AIMLE_SplitOpJoin",
    spec="AIMLE",
    version="1.0.0",
    base_path="/aimle-split-join/v1",
    operations=(
        Operation(
            "PUT",
            "/pipelines/{splitOpPipelineId}/client",
            "JoinSplitOpPipeline",
            join,
            body=PipelineJoin(),
            answers={200: SplitOpPipelineCreateResp()},
            summary="Join a split operation pipeline that is for several clients.",
        ),
        Operation(
            "DELETE",
            "/pipelines/{splitOpPipelineId}/client",
            "LeaveSplitOpPipeline",
            leave,
            summary="Leave a split operation pipeline.",
        ),
    ),
    extension=True,
)

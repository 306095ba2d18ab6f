"""Aimles_SplitOpPipeline (TS 24.560; TS 23.482 8.14.2): pipelines are found, made, changed and deleted.

The requestId of a URI is the splitOpPipelineId.
"""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import MERGE_PATCH, Api, Call, Operation, created, no_content, ok
from schemas.split_pipeline import (
    SplitOpPipelineCreateReq,
    SplitOpPipelineCreateResp,
    SplitOpPipelineDiscReq,
    SplitOpPipelineDiscResp,
    SplitOpPipelinePatch,
)


async def create(call: Call) -> web.Response:
    """A new pipeline."""
    pipeline_id, answer = await call[SERVICES].split_pipelines.create(call.caller, call.body)
    return created(answer, f"{call.base_url}/request/{pipeline_id}")


async def replace(call: Call) -> web.Response:
    """Other stages, or another use."""
    return ok(await call[SERVICES].split_pipelines.replace(call.caller, call.path("requestId"), call.body))


async def modify(call: Call) -> web.Response:
    """A JSON merge patch of a pipeline's profile."""
    return ok(await call[SERVICES].split_pipelines.modify(call.caller, call.path("requestId"), call.body))


async def delete(call: Call) -> web.Response:
    """No pipeline any more."""
    await call[SERVICES].split_pipelines.delete(call.caller, call.path("requestId"))
    return no_content()


async def discover(call: Call) -> web.Response:
    """Pipelines that meet filters, or a new one."""
    return ok(await call[SERVICES].split_discovery.discover(call.caller, call.body))


API = Api(
    name="Aimles_SplitOpPipeline",
    spec="TS 24.560",
    version="1.0.2",
    base_path="/aimles-sopl/v1",
    operations=(
        Operation(
            "POST",
            "/request",
            "SplitOpPipeCreate",
            create,
            body=SplitOpPipelineCreateReq(),
            answers={201: SplitOpPipelineCreateResp()},
            location=True,
            summary="Make a split operation pipeline of these stages.",
        ),
        Operation(
            "PUT",
            "/request/{requestId}",
            "SplitOpPipeUpdate",
            replace,
            body=SplitOpPipelineCreateReq(),
            answers={200: SplitOpPipelineCreateResp(), 204: None},
            summary="Replace what a split operation pipeline is made of.",
        ),
        Operation(
            "PATCH",
            "/request/{requestId}",
            "SplitOpPipeModify",
            modify,
            body=SplitOpPipelinePatch(),
            content_type=MERGE_PATCH,
            answers={200: SplitOpPipelineCreateResp(), 204: None},
            summary="Change a part of a split operation pipeline.",
        ),
        Operation(
            "POST",
            "/discovery",
            "SplitOpPipeDiscovery",
            discover,
            body=SplitOpPipelineDiscReq(),
            answers={200: SplitOpPipelineDiscResp()},
            summary="Find split operation pipelines, or have one made.",
        ),
        Operation(
            "DELETE", "/request/{requestId}", "SplitOpPipeDelete", delete, summary="Delete a pipeline."
        ),
    ),
)

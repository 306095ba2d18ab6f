"""Types of Aimles_SplitOpPipeline (TS 24.560; TS 23.482 8.14.2): pipelines are found, made, changed."""

from schemas.base import Choice, Flag, Integer, PatchSchema, Schema, Text, array_of, nested, texts
from schemas.common import EndPoint, Uri
from schemas.split_event import DiscFilters, SplitOpPipelineInfo, SplitOpProfile, StageInfo
from schemas.split_node_registration import UsageInformation


class RequirementsExtension(Schema):
    """Our member `aimle` of requirements.

    `multiClient`: clients of others may find the pipeline too. The rest is for pipelines that this server runs: what
    is to be best, how many samples a frame has, the node where inputs come from and results are wanted, whether all
    nodes run in the order in which they are given, and how many cuts of the model are considered (all, if left out).
    """

    multiClient = Flag()
    objective = Choice("LATENCY", "THROUGHPUT")
    batch = Integer(1, 1_000_000)
    origin = Uri()
    inOrder = Flag()
    mostCuts = Integer(1, 256)


class SplitOpRequirements(Schema):
    """What a pipeline is to be made of, its planned use, and where its results go."""

    stageInfo = array_of(StageInfo, required=True)
    usageInfo = nested(UsageInformation)
    notificationTarget = nested(EndPoint)
    aimle = nested(RequirementsExtension)


class SplitOpPipelineCreateReq(Schema):
    """Make a pipeline; `notifUri` is told when it changes without its owner."""

    requestorId = Text(required=True)
    notifUri = Uri(required=True)
    splitOpRequirements = nested(SplitOpRequirements, required=True)


class SplitOpPipelineCreateResp(Schema):
    """The pipeline."""

    splitOpProfile = nested(SplitOpProfile)


class SplitOpPipelinePatch(PatchSchema):
    """Changes to a pipeline, which `splitOpPipelineId` names once more."""

    notifUri = Uri(required=True)
    splitOpPipelineId = Text(required=True)
    splitOpPipelineInfo = nested(SplitOpPipelineInfo, required=True)


class PipelineJoin(Schema):
    """Use a pipeline for several clients, too (our extension)."""

    requestorId = Text(required=True)


class SplitOpPipelineDiscReq(Schema):
    """Find pipelines, or have one made."""

    notifUri = Uri(required=True)
    discFilters = nested(DiscFilters, required=True)


class SplitOpPipelineDiscResp(Schema):
    """Pipelines, or nodes of which one could be made."""

    any_of = ("discoveredNodes", "splitOpProfiles")

    discoveredNodes = texts()
    splitOpProfiles = array_of(SplitOpProfile)

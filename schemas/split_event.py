"""Types of AIMLES_SplitOpEvent (TS 29.482; TS 23.482 8.14.2.5): pipelines, and what is told of them."""

from schemas.base import (
    Choice,
    Flag,
    Integer,
    Number,
    OpenEnum,
    PatchSchema,
    Schema,
    Text,
    array_of,
    nested,
    texts,
)
from schemas.common import DateTime, EndPoint, SupportedFeatures, TimeWindow, Uri
from schemas.reporting import ReportingInformation
from schemas.split_node_registration import UsageInformation


class SplitOpEventId(OpenEnum):
    """What is told of."""

    values = ("SPLIT_OP_AVAILABILITY", "SPLIT_OP_PIPELINE_INFO", "SPLIT_OP_ASSISTANCE_INFO")


class SubEventId(OpenEnum):
    """What became of a pipeline."""

    values = ("CREATED", "UPDATED", "DELETED")


class StageInfo(Schema):
    """One stage: its model, the nodes that run it in this order, and where it is entered and left."""

    stageId = Text(required=True)
    numNodes = Text()
    headEp = nested(EndPoint, required=True)
    tailEp = nested(EndPoint, required=True)
    nodeOrder = array_of(EndPoint, required=True)
    mlModelId = Text(required=True)


class PartInfo(Schema):
    """A part of the model, which is a model itself, the node that runs it, and the tensors that it gives."""

    node = Text(required=True)
    mlModelId = Text(required=True)
    gives = texts()


class PipelineExecution(Schema):
    """How this server runs a pipeline: the parts in their order, and what was predicted and measured of them.

    Latencies are seconds of one frame of `batch` samples, throughputs frames per second. An error is what the
    prediction was too high by, as a fraction of the measurement. `origin`, `inOrder` and `mostCuts` are what was asked
    for.
    """

    objective = Choice("LATENCY", "THROUGHPUT", required=True)
    batch = Integer(1)
    origin = Uri()
    inOrder = Flag()
    mostCuts = Integer(1)
    parts = array_of(PartInfo)
    predictedLatency = Number()
    latency = Number()
    latencyError = Number()
    predictedThroughput = Number()
    throughput = Number()
    throughputError = Number()


class PipelineExtension(Schema):
    """Our member `aimle` of profiles: how a pipeline stands, and what was asked for beside the standard.

    `state` is DEGRADED while the pipeline cannot be used, or not yet; `reason` says why where this server runs it.
    `missing` are its nodes that do not count. `version` counts the changes. `execution` is there where this server runs
    the pipeline, `clients` where somebody has joined it: how many use it, its owner included.
    """

    state = Choice("READY", "DEGRADED")
    reason = Text()
    version = Integer(1)
    missing = texts()
    execution = nested(PipelineExecution)
    multiClient = Flag()
    clients = Integer(1)
    notificationTarget = nested(EndPoint)


class SplitOpProfile(Schema):
    """A pipeline."""

    splitOpPipelineId = Text(required=True)
    stageInfo = array_of(StageInfo, required=True)
    usageInfo = nested(UsageInformation)
    headEp = nested(EndPoint, required=True)
    tailEp = nested(EndPoint, required=True)
    aimle = nested(PipelineExtension)


class SplitOpPipelineInfo(Schema):
    """A pipeline, and what became of it."""

    splitOpProfile = nested(SplitOpProfile)
    subEventId = SubEventId()


class DiscFilters(Schema):
    """Which pipelines or nodes are wanted."""

    stageInfo = array_of(StageInfo, required=True)
    usageInfo = nested(UsageInformation)
    minNodes = Text()


class AssistanceInfo(Schema):
    """Advice for delivery."""

    deliveryTime = nested(TimeWindow)
    achievableQoS = Text()
    qosSuggestion = Text()


class AvailabilityInfo(Schema):
    """What is available now: pipelines, and addresses of nodes with a space between two."""

    splitOpProfile = array_of(SplitOpProfile)
    availableNodes = Text()


class SplitOpEventSub(Schema):
    """Tell of a pipeline, or with `*` of all that the subscriber may know of."""

    splitOpPipelineId = Text(required=True)
    reportReq = nested(ReportingInformation)
    splitOpEventId = SplitOpEventId(required=True)
    discFilters = nested(DiscFilters)
    assistInfo = nested(AssistanceInfo)
    expTime = DateTime()
    notifUri = Uri(required=True)
    suppFeat = SupportedFeatures()


class SplitOpEventSubPatch(PatchSchema):
    """Changes of a SplitOpEventSub."""

    reportReq = nested(ReportingInformation)
    splitOpEventId = SplitOpEventId()
    discFilters = nested(DiscFilters)
    expTime = DateTime()
    notifUri = Uri()


class SplitOpEventNotif(Schema):
    """What happened."""

    splitOpEventId = SplitOpEventId(required=True)
    availabilityInfo = nested(AvailabilityInfo)
    splitOpPipelineInfo = nested(SplitOpPipelineInfo)
    assistanceInfo = nested(AssistanceInfo)

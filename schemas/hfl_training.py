"""Types of Aimlec_HFLTraining (TS 24.560; TS 23.482 8.12): the server subscribes to a client's training."""

from schemas.base import Integer, PatchSchema, Schema, Text, nested
from schemas.common import DateTime, ScheduledCommunicationTime, SupportedFeatures, Uri
from schemas.model_training import MlModelInfo, PerfParams, TrainingErr
from schemas.reporting import ReportingRequirements


class HflTrngSub(Schema):
    """Train this model on that data, and report; `vaSrvId` is the standard's spelling."""

    requesterId = Text(required=True)
    notifUri = Uri(required=True)
    aimlMdlInfo = nested(MlModelInfo, required=True)
    dataId = Text(required=True)
    noDataSamp = Integer(required=True)
    operSched = nested(ScheduledCommunicationTime)
    notifReqs = nested(ReportingRequirements)
    suppFeat = SupportedFeatures()
    vaSrvId = Text(required=True)
    subId = Text()


class HflTrngSubPatch(PatchSchema):
    """Changes to a subscription, the next round's model above all; `null` removes."""

    notifUri = Uri()
    aimlMdlInfo = nested(MlModelInfo)
    dataId = Text()
    noDataSamp = Integer()
    operSched = nested(ScheduledCommunicationTime)
    notifReqs = nested(ReportingRequirements)


class HflTrngNotify(Schema):
    """How a client's local training went. It names neither training nor round: its address does."""

    vaSrvId = Text(required=True)
    hflTrngOut = nested(PerfParams, required=True)
    hflTrngErr = TrainingErr()
    timestamp = DateTime()

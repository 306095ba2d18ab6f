"""Types of Aimlec_AimlTaskTransfer (TS 24.560; TS 23.482 8.6): a client is asked to go on with another one's task.

Some types have a member `aimle`, which is ours; who does not know it ignores it.
"""

from schemas.base import Flag, OpenEnum, Schema, Text, nested
from schemas.client_registration import AimlOperation
from schemas.common import TimeWindow, ValTargetUe


class AimlInfoType(OpenEnum):
    """What of the task is transferred; the last value is the standard's."""

    values = ("INTERMEDIATE_AIML_OP_RESULTS", "INTERMEDIATE_AIML_OP_STATUS", "FIRST_MATCH")


class TransferReference(Schema):
    """Of which transfer this is, as the AIMLE server has named it, and of which training the task is a part."""

    transferId = Text(required=True)
    trainingId = Text()
    datasetId = Text()


class AimleClientTaskTransferReq(Schema):
    """The server asks whether this client goes on with the source's task, and when it can take it over."""

    requestorId = Text(required=True)
    sourceAimlId = nested(ValTargetUe, required=True)
    aimlTaskType = AimlOperation(required=True)
    aimlInfoType = AimlInfoType(required=True)
    aimlTaskTransferTime = nested(TimeWindow)
    timeValidity = nested(TimeWindow)
    aimle = nested(TransferReference)


class TargetDetails(Schema):
    """Whether the source may bring the state itself, to our API beside this one."""

    direct = Flag()


class AimleClientTaskTransferRes(Schema):
    """The client agrees, and when it can take the task over."""

    aimlTaskTransferTime = nested(TimeWindow)
    aimle = nested(TargetDetails)


class AimleClientDirectTransferReq(Schema):
    """The source asks this client itself."""

    requestorId = nested(ValTargetUe, required=True)
    aimlTaskType = AimlOperation(required=True)
    aimlInfoType = AimlInfoType(required=True)
    aimlTaskTransferTime = nested(TimeWindow)
    timeValidity = nested(TimeWindow)
    aimle = nested(TransferReference)

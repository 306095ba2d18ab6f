"""Types of Aimles_AimlTaskTransfer (TS 24.560; TS 23.482 8.6), and of our own API beside it.

The types have a member `aimle`, which is ours; who does not know it ignores it.
"""

from schemas.base import Choice, Flag, Integer, OpenEnum, Schema, Text, array_of, nested, texts
from schemas.client_registration import AimlOperation
from schemas.client_task_transfer import AimlInfoType
from schemas.common import DateTime, TimeWindow, Uinteger, Uri, ValTargetUe

TRANSFER_STATES = ("REQUESTED", "AGREED", "HANDED_OVER", "FAILED", "EXPIRED")


class TransferMode(OpenEnum):
    """From client to client, or through the server."""

    values = ("DIRECT", "SERVER_CONTROLLED")


class TaskReference(Schema):
    """Which task it is: the training that it is a part of.

    `targetId` names the client that is to take it over, where the source knows one; without `direct` the source cannot
    reach other clients itself.
    """

    trainingId = Text(required=True)
    targetId = Text()
    direct = Flag()


class AimlRmngTrainingReq(Schema):
    """What is left to do: resources in words, iterations (`Resorce`: sic)."""

    reqRmngTrainResorce = Text()
    reqRmngTrainIterNum = Integer()


class AimlIntermediateInfo(Schema):
    """What is done: in which time, with which resources, how many iterations."""

    aimlImdModel = nested(AimlRmngTrainingReq)
    aimlUsedTrainTime = nested(TimeWindow)
    usedTrainResource = Text()
    usedTrainIterNum = Integer()


class AimlesTaskTransferAssistReq(Schema):
    """The source of a task asks who can go on with it."""

    requestorId = nested(ValTargetUe, required=True)
    valServiceId = Text()
    aimlTaskType = AimlOperation(required=True)
    aimlInfoType = AimlInfoType(required=True)
    aimlRmngTrainReq = nested(AimlRmngTrainingReq)
    aimlImdInfo = nested(AimlIntermediateInfo)
    timeValidity = nested(TimeWindow)
    aimle = nested(TaskReference)


class TargetAddress(Schema):
    """A target, and the apiRoot of its own APIs."""

    clientId = Text(required=True)
    uri = Uri(required=True)


class Assistance(Schema):
    """The transfer as this server knows it; the targets come in the order in which they are to be tried."""

    transferId = Text(required=True)
    transferMode = TransferMode(required=True)
    targets = array_of(TargetAddress, required=True)


class AimlesTaskTransferAssistResp(Schema):
    """Who can, when, and whether the source hands it over itself."""

    assistanceTime = nested(TimeWindow, required=True)
    targetAimlIds = array_of(ValTargetUe, required=True)
    transferMode = TransferMode()
    aimle = nested(Assistance)


class AimlesControlledTaskTransferReq(Schema):
    """The source of a task wants it handed over through the server."""

    requestorId = nested(ValTargetUe, required=True)
    aimlTaskType = AimlOperation(required=True)
    aimlInfoType = AimlInfoType(required=True)
    aimlTaskTransferTime = nested(TimeWindow, required=True)
    timeValidity = nested(TimeWindow)
    aimle = nested(TaskReference)


class AimlesControlledTaskTransferResp(Schema):
    """When."""

    assistanceTime = nested(TimeWindow, required=True)
    aimle = nested(Assistance)


class HandOver(Schema):
    """The source gives its task away: by which transfer, to whom, after how many iterations."""

    transferId = Text(required=True)
    targetId = Text(required=True)
    iterations = Uinteger(required=True)
    reason = Text()


class TransferEvent(Schema):
    """What happened to a transfer, when, and why."""

    state = Choice(*TRANSFER_STATES, required=True)
    at = DateTime(required=True)
    reason = Text()


class TransferStatus(Schema):
    """A transfer as it stands; `owner` is the client that has the task."""

    transferId = Text(required=True)
    state = Choice(*TRANSFER_STATES, required=True)
    sourceId = Text(required=True)
    owner = Text(required=True)
    targetIds = texts(min_items=0)
    trainingId = Text()
    mode = Text()
    window = nested(TimeWindow)
    history = array_of(TransferEvent, required=True)

"""Types of Aimlec_AIMLEClientParticipation (TS 24.560; TS 23.482 8.10): join or leave a client set."""

from schemas.base import Flag, OpenEnum, Schema, Text, array_of, nested
from schemas.client_discovery import DatasetRequirement, ServiceRequirement
from schemas.client_registration import AimlOperation
from schemas.common import ScheduledCommunicationTime


class ClientSetPart(OpenEnum):
    """Whether the client is asked into the set or out of it."""

    values = ("JOIN", "DEPART")


class SchedAimlOperation(Schema):
    """An AI/ML operation of the set, and when it takes place."""

    aimlOperation = AimlOperation(required=True)
    aimlOperSched = nested(ScheduledCommunicationTime)


class AimlecParticipationReq(Schema):
    """Who asks the client into or out of which set, for which operations on which model."""

    requesterId = Text(required=True)
    clientSetId = Text(required=True)
    clientSetPart = ClientSetPart(required=True)
    mlModelId = Text(required=True)
    schedAimlOperations = array_of(SchedAimlOperation, required=True)
    dataSetReq = nested(DatasetRequirement, required=True)
    serviceReq = nested(ServiceRequirement, required=True)


class AimlecParticipationResp(Schema):
    """Whether the client did as it was asked."""

    clientStatus = Flag(required=True)

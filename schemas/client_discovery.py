"""Types of AIMLES_AIMLEClientDiscovery (TS 29.482; TS 23.482 8.8): which AIMLE clients fit."""

from marshmallow import fields

from schemas.base import Array, Map, OpenEnum, Schema, Text, array_of, nested, texts
from schemas.common import (
    AimleClientId,
    DateTime,
    EndPoint,
    Percentage,
    ScheduledCommunicationTime,
    SupportedFeatures,
    Uinteger,
)
from schemas.location import LocationArea5G, ServiceArea


class ServicePermLevel(OpenEnum):
    """How much of the clients' resources the service needs; the registration names the same at length."""

    values = ("PREMIUM", "STANDARD", "LIMITED")


class MlModelType(OpenEnum):
    """A kind of ML model; plural where the registration's is singular."""

    values = ("DECISION_TREES", "LINEAR_REGRESSION", "NEURAL_NETWORKS")


class AimlOperationRole(OpenEnum):
    """An AI/ML operation that clients are wanted for."""

    values = ("MODEL_TRAINING", "MODEL_TRANSFER", "MODEL_INFERENCE", "MODEL_OFFLOAD", "MODEL_SPLIT")


class MlAppType(OpenEnum):
    """Federated, transfer or split learning."""

    values = ("FL", "TL", "SL")


class DataType(OpenEnum):
    """Whether data has been worked on."""

    values = ("RAW", "PROCESSED")


class PerformanceCapability(OpenEnum):
    """What a client's performance is good for."""

    values = ("GREEN_TASK", "ENERGY_EFFICIENT", "LOW_COSTS")


class ComputeCapability(OpenEnum):
    """How much a client can compute."""

    values = ("LOW", "HIGH")


class ClientVelocity(OpenEnum):
    """How fast a client moves."""

    values = ("MOBILE_LOW", "MOBILE_HIGH", "STATIC")


class ServiceRequirement(Schema):
    """The VAL service that clients must support, and how far."""

    valServId = Text(required=True)
    permLevel = ServicePermLevel()


class ClientAppCapability(Schema):
    """How clients must learn, when they must be there, and how often they may drop out, in per cent."""

    appType = MlAppType(required=True)
    avail = array_of(ScheduledCommunicationTime)
    dropOfRate = Percentage()


class DatasetAvailability(Schema):
    """The data sets that clients must have."""

    ids = texts()
    age = DateTime()
    size = Uinteger()
    features = texts()


class DatasetCapability(Schema):
    """The form of the data, and what can be done with it."""

    dataType = DataType()
    functions = texts()


class DatasetRequirement(Schema):
    """What is required of clients' data."""

    avail = nested(DatasetAvailability)
    cap = nested(DatasetCapability)


class ClientTaskCapability(Schema):
    """What clients must be able to compute."""

    compCap = ComputeCapability()
    perfCap = PerformanceCapability()


class EASInfo(Schema):
    """An edge application server."""

    any_of = ("easID", "easEndPoint", "dnais", "serviceArea")

    easID = Text()
    easEndPoint = nested(EndPoint)
    dnais = texts()
    serviceArea = nested(ServiceArea)


class EdgeAIMLES(Schema):
    """An AIMLE server at the edge."""

    any_of = ("easInfo", "aimleServId")

    easInfo = nested(EASInfo)
    aimleServId = Text()


class ClientDiscCriteria(Schema):
    """What AIMLE clients must be like (TS 23.482 8.8.3.1)."""

    serviceReq = nested(ServiceRequirement, required=True)
    mlModelTypes = Array(MlModelType())
    aimlOpers = Array(AimlOperationRole(), required=True)
    clientAppCap = nested(ClientAppCapability, required=True)
    datasetReq = nested(DatasetRequirement)
    clientTaskCap = nested(ClientTaskCapability)
    clientVel = ClientVelocity()
    location = nested(LocationArea5G)
    clientQosReqs = Array(fields.Raw())
    edgeAimleS = nested(EdgeAIMLES)


class ClientDiscResp(Schema):
    """The AIMLE clients that fit; `edgeAimleSs` by a key of the server's choice."""

    clients = Array(AimleClientId(), min_items=0, required=True)
    suppTasks = array_of(ClientTaskCapability)
    suppFeats = SupportedFeatures()
    edgeAimleSs = Map(nested(EdgeAIMLES), min_properties=1)

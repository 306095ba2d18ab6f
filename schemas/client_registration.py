"""Types of Aimles_AIMLEClientRegistration (TS 24.560; TS 23.482 8.7): what a UE tells of its AIMLE client."""

from schemas.base import Array, Integer, OpenEnum, Schema, Text, array_of, nested, texts
from schemas.common import DateTime, ScheduledCommunicationTime, SupportedFeatures, Uri, ValTargetUe
from schemas.location import LocationArea5G


class ServicePermissionLevel(OpenEnum):
    """How much of the client's resources a VAL service may use."""

    values = (
        "PREMIUM_RESOURCE_USAGE",
        "STANDARD_RESOURCE_USAGE",
        "LIMITED_RESOURCE_USAGE",
        "OTHER_SERVICE_PERMISSION_LEVEL",
    )


class AimlModelType(OpenEnum):
    """A kind of ML model."""

    values = ("DECISION_TREE", "LINEAR_REGRESSION", "NEURAL_NETWORK", "OTHER_MODEL_TYPE")


class AimlOperation(OpenEnum):
    """An AI/ML operation that a client takes part in."""

    values = (
        "MODEL_INFERENCE",
        "MODEL_OFFLOAD",
        "MODEL_SPLIT",
        "MODEL_TRANSFER",
        "MODEL_TRAINING",
        "CONTINUE_PERFORM_INTERMEDIATE",
    )


class MlApplicationType(OpenEnum):
    """A way of learning together."""

    values = ("FEDERATED_LEARNING", "TRANSFER_LEARNING", "SPLIT_LEARNING", "OTHER_ML_APPLICATION_TYPE")


class ResourceUsageLevel(OpenEnum):
    """How much of its resources a client gives."""

    values = ("PREMIUM_RESOURCE_USAGE", "STANDARD_RESOURCE_USAGE", "LIMITED_RESOURCE_USAGE")


class DataCapability(OpenEnum):
    """A form of data that a client has; the misspelt values are the standard's."""

    values = (
        "RAW_DATA",
        "STRUCURED_DATA",
        "SEMI_STRUCTURED_DATA",
        "UNSTRUCTURED_DATA",
        "PROCESSED_DATA",
        "EXPLOATORY_DATA_ANALYSIS",
    )


class TaskCapability(OpenEnum):
    """A capability of a client for AI/ML tasks."""

    values = (
        "HIGH_COMPUTE_CAPABILITY",
        "LOW_COMPUTE_CAPABILITY",
        "LOW_COSTS_PERFORMANCE",
        "GREEN_TASK_PERFORMANCE",
        "ENERGY_EFFICIENT_PERFORMANCE",
    )


class ClientCapability(Schema):
    """How a client learns, and with how much of its resources."""

    mlAppType = MlApplicationType(required=True)
    rsrcUsageLvl = ResourceUsageLevel(required=True)


class DataSetAvailability(Schema):
    """The data sets that a client has; the standard leaves the units of size and age open."""

    dataSetIds = texts(required=True)
    size = Integer()
    age = Integer()
    features = texts()


class LocationConfig(Schema):
    """A place: an area, or a VAL service area."""

    clientLoc = nested(LocationArea5G)
    valSvcAreaId = Text()


class ServiceData(Schema):
    """A VAL service that a client supports."""

    valServiceId = Text(required=True)
    servPermLevel = ServicePermissionLevel()


class AimleClientProfile(Schema):
    """Where a client is reached, what it can do, and when and where it can."""

    aimleClientUri = Uri(required=True)
    aimlModelTypes = Array(AimlModelType())
    aimlOperations = Array(AimlOperation(), required=True)
    clientCap = nested(ClientCapability, required=True)
    availTimeSchedCfgs = array_of(ScheduledCommunicationTime)
    unavblTimeSchedCfgs = array_of(ScheduledCommunicationTime)
    availLocCfgs = array_of(LocationConfig)
    unavblLocCfgs = array_of(LocationConfig)
    dataSetAvail = nested(DataSetAvailability)
    dataCap = Array(DataCapability())
    taskCaps = Array(TaskCapability())


class SupportedProfile(Schema):
    """A profile of a client and the VAL services it is for."""

    clientProfile = nested(AimleClientProfile)
    suppServices = array_of(ServiceData)


class AimleClientRegInfo(Schema):
    """What a client registers with: who it is and its profiles."""

    aimleClientId = nested(ValTargetUe, required=True)
    suppProfiles = array_of(SupportedProfile, required=True)
    suppFeat = SupportedFeatures()


class AimleRegistration(Schema):
    """A registration as it stands, and until when."""

    regData = nested(AimleClientRegInfo, required=True)
    expTime = DateTime()

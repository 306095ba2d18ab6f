"""Types of MLR_MLModelManagement (TS 29.482; TS 23.482 8.11): ML models in the repository."""

from schemas.base import Array, Flag, OpenEnum, PatchSchema, Schema, Text, array_of, nested, texts
from schemas.common import AdaeAnalyticsId, DurationSec, EndPoint, Percentage, SupportedFeatures, Volume
from schemas.location import LocationArea5G


class MLModelDomain(OpenEnum):
    """What a model is for; `CUSTOM` is explained in `customDomain`."""

    values = ("SPEECH_RECOGNITION", "IMAGE_RECOGNITION", "IMAGE_PROCESSING", "LOCATION_PREDICTION", "CUSTOM")


class MLModelPhase(OpenEnum):
    """Where a model is in its life."""

    values = ("NOT_TRAINED", "IN_TRAINING", "TRAINED", "IN_RETRAINING", "DEPLOYED")


class MLModelUsage(OpenEnum):
    """What a model may be used for."""

    values = ("TRAINING", "INFERENCE")


class AccessReqs(OpenEnum):
    """Who may see a model."""

    values = ("PUBLICLY_AVAILABLE", "RESTRICTED", "PRIVATE_USE_ONLY")


class DataFreshness(OpenEnum):
    """How often training data is renewed."""

    values = ("REAL_TIME", "NEAR_REAL_TIME", "HOURLY", "DAILY", "WEEKLY", "MONTHLY")


class MLModelPerf(Schema):
    """How well a model does; `resourceAddr` is a percentage."""

    any_of = ("resourceAddr", "appSpecPerfData")

    resourceAddr = Percentage()
    appSpecPerfData = Text()


class MLModelTrainingInfo(Schema):
    """What a model was trained on, and from which model."""

    any_of = ("dataSources", "dataVolume", "freshness", "baseModelId")

    dataSources = Text()
    dataVolume = Volume()
    freshness = DataFreshness()
    baseModelId = Text()


class MLModelPhaseInfo(Schema):
    """Where a model is in its life, how well it does, and whether its training goes on."""

    phase = MLModelPhase(required=True)
    observedPerf = nested(MLModelPerf)
    trainingInfo = nested(MLModelTrainingInfo)
    contTrainInd = Flag(metadata={"default": False})
    contTrainParams = Text()


class MLModelAccessReqs(Schema):
    """Who may use a model, for how long, and where."""

    accessReq = AccessReqs(required=True)
    valServerIds = texts()
    valClientIds = texts()
    timePeriod = DurationSec()
    location = nested(LocationArea5G)


class MLModelStoreDiscReqs(Schema):
    """How long a model is kept, and who may find it."""

    any_of = ("duration", "accessReqs")

    duration = DurationSec()
    accessReqs = nested(MLModelAccessReqs)


class MLModelUsageReqs(Schema):
    """What a model may be used for."""

    usages = Array(MLModelUsage(), required=True)


class MLModel(Schema):
    """A model's information; its bytes are elsewhere. Also the criteria by which models are found."""

    any_of = ("vendors", "interopInfo", "phaseInfo", "storeDiscReqs")

    mlModelId = Text(required=True)
    adaeAnalyticsId = AdaeAnalyticsId()
    mlModelSize = Volume()
    mlModelSrcId = Text()
    valServiceIds = texts()
    domain = MLModelDomain()
    customDomain = Text()
    vendors = texts()
    interopInfo = Text()
    phaseInfo = nested(MLModelPhaseInfo)
    storeDiscReqs = nested(MLModelStoreDiscReqs)
    usageReqs = nested(MLModelUsageReqs)


class MLModelProfile(Schema):
    """A model as the repository has it: its information, who keeps it, and where its bytes are."""

    mlModelProfId = Text()
    aimleServId = Text()
    aimleRepId = Text()
    mlModelInfo = nested(MLModel, required=True)
    mlModelUri = nested(EndPoint)


class MLModelsStorage(Schema):
    """Models that are stored together, as profiles or as addresses."""

    any_of = ("mlModels", "mlModelsAddresses")

    mlModels = array_of(MLModelProfile)
    mlModelsAddresses = array_of(EndPoint)
    suppFeat = SupportedFeatures()


class MLModelsStoragePatch(PatchSchema):
    """Changes to a storage; `null` removes."""

    mlModels = array_of(MLModelProfile)
    mlModelsAddresses = array_of(EndPoint)

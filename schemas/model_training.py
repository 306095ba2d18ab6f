"""Types of AIMLES_MLModelTraining (TS 29.482; TS 23.482 8.3): have a model trained by AIMLE clients."""

from schemas.base import Array, Flag, OpenEnum, Schema, Text, array_of, nested, texts
from schemas.client_registration import ClientCapability
from schemas.common import AimleClientId, EndPoint, Float, Percentage, TimeWindow, Uinteger, Uri
from schemas.location import LocationArea5G
from schemas.model_management import MLModel


class TrainingType(OpenEnum):
    """Vertical or horizontal federated learning."""

    values = ("TRAIN_VFL", "TRAIN_HFL")


class TrainingErr(OpenEnum):
    """What went wrong in a training."""

    values = ("UNDERFITTING", "OVERFITTING", "PERFORMANCE_ERRORS", "DATA_LEAKAGE")


class PerformanceMetric(OpenEnum):
    """A measure of how well a model does (TS 29.482, AssistedMLModelSelection)."""

    values = ("ACCURACY", "PRECISION", "RECALL", "MEAN_SQUARED_ERROR", "MEAN_ABSOLUTE_ERROR")


class MemberSelCriteria(Schema):
    """What the members must be like."""

    clientLoc = nested(LocationArea5G)
    clientAvailability = nested(TimeWindow)
    clientCapability = nested(ClientCapability)


class MlModelInfo(Schema):
    """A model's identity, and where its bytes are."""

    mlModelId = Text()
    mlModelLoc = nested(EndPoint)


class MemberInfo(Schema):
    """A member: whether it is selected, and where it is reached."""

    clientSel = Flag()
    clientUri = Uri()


class PerfParams(Schema):
    """How well a model does; `modelAccuracy` is a percentage."""

    modelAccuracy = Percentage()
    modelPrecision = Float()
    modelRecall = Float()
    modelF1score = Float()
    errorMeanSquare = Float()
    errorMeanAbs = Float()


class EarlyStopCri(Schema):
    """Stop after `patience` rounds that improved by less than `minDelta`."""

    minDelta = Float()
    patience = Uinteger()


class TrainingObj(Schema):
    """What the training is to reach, and when it ends without."""

    objType = PerformanceMetric(required=True)
    targetValue = Float()
    earlyStopCri = nested(EarlyStopCri)
    maxEpochs = Uinteger()
    accTrainingErr = Float()
    inferenceLatency = Float()


class CommonId(Schema):
    """A feature by which samples of several clients are matched."""

    featureType = Text()
    featureId = Text()


class FeatureList(Schema):
    """A client's features."""

    clientId = AimleClientId()
    list = texts()


class VFLParam(Schema):
    """How the clients' features fit together in vertical federated learning."""

    datasetComm = array_of(CommonId)
    featureList = array_of(FeatureList)
    featureAlign = array_of(FeatureList)
    dataLabels = texts()


class TrainRequest(Schema):
    """Which model to train, with whom, on what, towards what, and where to send news of it."""

    trnType = TrainingType(required=True)
    members = Array(AimleClientId())
    clientSetId = Text()
    memSelCrit = nested(MemberSelCriteria)
    numReqClients = Uinteger()
    modelInf = nested(MlModelInfo)
    modelReq = nested(MLModel)
    trainObj = nested(TrainingObj)
    datasetId = texts(required=True)
    dataSamples = Uinteger()
    opSchedule = Text()
    vflParam = nested(VFLParam)
    memUpdNotif = Flag()
    notifUri = Uri()


class MlModelTrainResp(Schema):
    """The training that was begun, and the model it makes."""

    trainingId = Text(required=True)
    modelId = Text()


class MlModelTrainNotif(Schema):
    """News of a training; here the standard writes `trainingID`."""

    trainingID = Text()
    members = array_of(MemberInfo)
    trainOut = nested(PerfParams)
    percentageComp = Percentage()
    trainErr = TrainingErr()

"""Types of AIMLES_AIMLEServiceOperationsManagement (TS 29.482; TS 23.482 8.20): what clients run."""

from schemas.base import Array, OpenEnum, Schema, Text, array_of, nested
from schemas.common import AimleClientId, DateTime, DurationSec, Percentage, SupportedFeatures, Uinteger, Uri
from schemas.reporting import MatchingDirection


class AimleOperMode(OpenEnum):
    """Start or stop."""

    values = ("START", "STOP")


class ServiceOperEvent(OpenEnum):
    """What a status report is about."""

    values = ("OPERATION_TRANSITION",)


class AimleOperId(Schema):
    """The operation: a training, or another task."""

    one_of = ("trainingId", "taskId")

    trainingId = Text()
    taskId = Text()


class AimleOperAssist(Schema):
    """How long the operation may take to converge, in seconds."""

    maxConvTime = DurationSec(required=True)


class AimleOperInfo(Schema):
    """What runs: container, where the model comes from, where updates go (`assitInfo`: sic)."""

    container = Text(required=True)
    fetchUri = Uri(required=True)
    agrUri = Uri(required=True)
    assitInfo = nested(AimleOperAssist, required=True)


class MeasurementData(Schema):
    """Latency in milliseconds, a moment, an accuracy in per cent."""

    latency = Uinteger()
    time = DateTime()
    accuracy = Percentage()


class AimleConfigMode(Schema):
    """Start or stop when a measurement crosses its threshold."""

    mode = AimleOperMode(required=True)
    measThrValues = nested(MeasurementData, required=True)
    thrDirection = MatchingDirection(required=True)


class StatReport(Schema):
    """When to report the operation's status."""

    any_of = ("period", "servOperEvent")

    period = DurationSec()
    servOperEvent = ServiceOperEvent()


class AimlServOperReq(Schema):
    """Start or stop an operation of named clients, or of a client set."""

    one_of = ("clients", "setId")

    valSvcId = Text()
    clients = Array(AimleClientId())
    setId = Text()
    operId = nested(AimleOperId)
    operInfo = nested(AimleOperInfo)
    operMode = AimleOperMode(required=True)
    confModes = array_of(AimleConfigMode)
    operModeStatReport = nested(StatReport)
    suppFeat = SupportedFeatures()


class AimlServOperResp(Schema):
    """The operation and the mode it is in."""

    valSvcId = Text()
    operId = nested(AimleOperId, required=True)
    operMode = AimleOperMode(required=True)
    suppFeat = SupportedFeatures()

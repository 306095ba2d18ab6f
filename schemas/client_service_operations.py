"""Types of Aimlec_AIMLEClientServiceOperations (TS 24.560; TS 23.482 8.20): what a client runs."""

from schemas.base import Integer, OpenEnum, Schema, Text, nested
from schemas.common import DurationSec, Uint32, Uri
from schemas.reporting import ReportingRequirements


class ServiceOperationMode(OpenEnum):
    """Start or stop."""

    values = ("START", "STOP")


class ServiceOperationInfo(Schema):
    """What the operation runs: container, where the model is, where updates go, seconds to converge."""

    mlMdlContainer = Text()
    mlMdlUri = Uri()
    mlMdAggregUri = Uri()
    maxConvgTime = DurationSec()


class ServiceOpModeConfiguration(Schema):
    """Limits at which the operation changes its mode."""

    maxLatency = Uint32()
    maxDurHour = Integer()
    modelAccuracy = Integer()


class AimleClientServOpReq(Schema):
    """Which server wants which operation started or stopped."""

    aimleServerId = Text(required=True)
    valServiceId = Text()
    servOpId = Text(required=True)
    servOpMode = ServiceOperationMode(required=True)
    servOpInfo = nested(ServiceOperationInfo)
    servOpModeCfg = nested(ServiceOpModeConfiguration)
    servOpModeStatRptg = nested(ReportingRequirements)


class AimleClientServOpResp(Schema):
    """The operation and the mode it is in."""

    valServiceId = Text()
    servOpId = Text(required=True)
    servOpModeStatus = ServiceOperationMode(required=True)

"""When to report and until when: TS 29.549, SS_NetworkResourceMonitoring, and TS 29.523, Npcf_EventExposure."""

from schemas.base import Array, Flag, Integer, OpenEnum, Schema, Text, array_of, nested
from schemas.common import DateTime, Uinteger


class BitRate(Text):
    """A bit rate with its unit, `1.5 Mbps`."""

    pattern = r"^\d+(\.\d+)? (bps|Kbps|Mbps|Gbps|Tbps)$"


class PacketLossRate(Integer):
    """Tenths of a percent."""

    bounds = (0, 1000)


class UnboundedDurationSec(Integer):
    """Seconds, TS 29.571's type, which unlike TS 29.122's has no lower bound."""


class NotificationMethod(OpenEnum):
    """When to report (TS 29.508)."""

    values = ("PERIODIC", "ONE_TIME", "ON_EVENT_DETECTION")


class MatchingDirection(OpenEnum):
    """How a threshold is crossed (TS 29.520)."""

    values = ("ASCENDING", "DESCENDING", "CROSSED")


class TerminationMode(OpenEnum):
    """What ends the reporting."""

    values = (
        "TIME_TRIGGERED",
        "EVENT_TRIGGERED_NUM_REPORTS_REACHED",
        "EVENT_TRIGGERED_MEAS_THR_REACHED",
        "USER_TRIGGERED",
    )


class ThresholdHandlingMode(OpenEnum):
    """Whether one threshold is enough or all must be reached."""

    values = ("ALL_REACHED", "ANY_REACHED")


class MeasurementData(Schema):
    """Values of network measurements; delays in milliseconds."""

    any_of = (
        "dlDelay",
        "ulDelay",
        "rtDelay",
        "avgPlr",
        "avgDataRate",
        "maxDataRate",
        "avrDlTrafficVol",
        "avrUlTrafficVol",
    )

    dlDelay = Uinteger()
    ulDelay = Uinteger()
    rtDelay = Uinteger()
    avgPlr = PacketLossRate()
    avgDataRate = BitRate()
    maxDataRate = BitRate()
    avrDlTrafficVol = Uinteger()
    avrUlTrafficVol = Uinteger()


class ReportingThreshold(Schema):
    """A measurement's threshold and the direction in which crossing it counts."""

    measThrValues = nested(MeasurementData, required=True)
    thrDirection = MatchingDirection(required=True)


class ReportingRequirements(Schema):
    """When to report, how often, and until when."""

    reportingMode = NotificationMethod(required=True)
    reportingPeriod = UnboundedDurationSec()
    reportingThrs = array_of(ReportingThreshold)
    immRep = Flag()
    repTerminMode = TerminationMode()
    expirationTimer = UnboundedDurationSec()
    maxNumRep = Uinteger()
    termThr = nested(MeasurementData)
    termThrMode = ThresholdHandlingMode()


class SamplingRatio(Integer):
    """Per cent (TS 29.571)."""

    bounds = (1, 100)


class PartitioningCriteria(OpenEnum):
    """By what UEs are parted before they are sampled (TS 29.571)."""

    values = ("TAC", "SUBPLMN", "GEOAREA", "SNSSAI", "DNN")


class NotificationFlag(OpenEnum):
    """Whether notifications are sent, or kept (TS 29.571)."""

    values = ("ACTIVATE", "DEACTIVATE", "RETRIEVAL")


class BufferedNotificationsAction(OpenEnum):
    """What becomes of those that were kept (TS 29.571)."""

    values = ("SEND_ALL", "DISCARD_ALL", "DROP_OLD")


class SubscriptionAction(OpenEnum):
    """What becomes of the subscription when they cannot be kept (TS 29.571)."""

    values = ("CLOSE", "CONTINUE_WITH_MUTING", "CONTINUE_WITHOUT_MUTING")


class MutingExceptionInstructions(Schema):
    """What to do when notifications cannot be kept."""

    bufferedNotifs = BufferedNotificationsAction()
    subscription = SubscriptionAction()


class MutingNotificationsSettings(Schema):
    """How many notifications are kept, and for how long."""

    maxNoOfNotif = Integer()
    durationBufferedNotif = UnboundedDurationSec()


class ReportingInformation(Schema):
    """When to report, how often, and until when; `monDur` is a moment."""

    immRep = Flag()
    notifMethod = NotificationMethod()
    maxReportNbr = Uinteger()
    monDur = DateTime()
    repPeriod = UnboundedDurationSec()
    sampRatio = SamplingRatio()
    partitionCriteria = Array(PartitioningCriteria())
    grpRepTime = UnboundedDurationSec()
    notifFlag = NotificationFlag()
    notifFlagInstruct = nested(MutingExceptionInstructions)
    mutingSetting = nested(MutingNotificationsSettings)


class SubscriptionExtension(Schema):
    """Our member `aimle` of subscriptions whose own type does not say when to report."""

    reportReq = nested(ReportingInformation)

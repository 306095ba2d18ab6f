"""Types of MLR_FLEvents (TS 29.482; TS 23.482 8.5): what happens to FL members, and to their models."""

from schemas.base import Number, OpenEnum, PatchSchema, Schema, Text, array_of, nested
from schemas.client_registration import ClientCapability
from schemas.common import (
    DateTime,
    Percentage,
    ScheduledCommunicationTime,
    SupportedFeatures,
    TimeWindow,
    Uinteger,
    Uri,
)
from schemas.location import LocationArea
from schemas.model_management import MLModel
from schemas.reporting import SubscriptionExtension


class FlMbrType(OpenEnum):
    """What an FL member is."""

    values = ("FL_CLIENT", "FL_SERVER")


class EnterLeave(OpenEnum):
    """Whether a member enters or leaves the list of those that are available."""

    values = ("ENTERING", "LEAVING")


class AvailFlMbr(OpenEnum):
    """Which changes of availability are told of."""

    values = ("AVAILABLE", "UNAVAILABLE")


class RenewableEnergySource(OpenEnum):
    """Where renewable energy comes from."""

    values = ("WIND", "SOLAR", "GEOTHERMY")


class RenewableEnergyFormula(OpenEnum):
    """How figures of renewable energy are put together."""

    values = ("AVERAGE", "MEDIAN")


class RenewableEnergyChange(OpenEnum):
    """Whether a change is expected or has come."""

    values = ("EXPECTATION", "ACTUAL")


class RenewableEnergyCause(OpenEnum):
    """Why it has changed."""

    values = ("MOBILITY", "WEATHER", "COVERAGE_LOSS")


class RenewableEnergyGranularity(OpenEnum):
    """What the figures are about."""

    values = ("FL_MEMBER", "FL_TASK", "FL_SERVICE")


class FlMbrInfo(Schema):
    """One FL member, or all of a type."""

    any_of = ("flMbrType", "flMbrId")

    flMbrId = Text()
    flMbrType = FlMbrType()


class FlMdlInfo(Schema):
    """A training: the accuracy of its model in per cent, when it takes place, and when it shall be completed."""

    accuracy = Uinteger(required=True)
    timeSchedule = array_of(ScheduledCommunicationTime, required=True)
    latency = Uinteger(required=True)


class EvtType(Schema):
    """What of each event is told; `flMbrLdInfo` is about the computational load."""

    availFlMbr = AvailFlMbr(required=True)
    flMdlInfo = nested(FlMdlInfo, required=True)
    flMbrLdInfo = Uinteger(required=True)


class EvtInfo(Schema):
    """Which event."""

    evtId = Text()
    evtType = nested(EvtType, required=True)


class RenewableEnergyTarget(Schema):
    """The share of renewable energy that is aimed at, or the least."""

    one_of = ("targetRatio", "minRatio")

    targetRatio = Uinteger()
    minRatio = Uinteger()


class RenewableEnergyReqs(Schema):
    """Which energy is to be told of."""

    energySource = RenewableEnergySource(required=True)
    energyTarget = nested(RenewableEnergyTarget, required=True)
    energyFormula = RenewableEnergyFormula()
    energyChange = RenewableEnergyChange()


class RenewableEnergyInfo(Schema):
    """The share of renewable energy."""

    energySource = RenewableEnergySource(required=True)
    energyRatio = Uinteger(required=True)
    timeValidity = nested(TimeWindow)
    cause = RenewableEnergyCause()
    energyGranularity = RenewableEnergyGranularity(required=True)


class FlEvtsSub(Schema):
    """Tell of what happens to FL members."""

    flMbrInfo = nested(FlMbrInfo, required=True)
    notifUri = Uri(required=True)
    mlMdlInfo = nested(MLModel, required=True)
    evtInfo = nested(EvtInfo, required=True)
    timeValidity = nested(TimeWindow, required=True)
    energyReqs = nested(RenewableEnergyReqs)
    suppFeat = SupportedFeatures()
    aimle = nested(SubscriptionExtension)


class FlEvtsSubPatch(PatchSchema):
    """Changes of an FlEvtsSub."""

    flMbrInfo = nested(FlMbrInfo)
    notifUri = Uri()
    mlMdlInfo = nested(MLModel)
    evtInfo = nested(EvtInfo)
    timeValidity = nested(TimeWindow)
    energyReqs = nested(RenewableEnergyReqs)
    aimle = nested(SubscriptionExtension)


class EvtDetails(Schema):
    """Our member `aimle` of an EvtContent: a member's load, or a model and its accuracy, in per cent."""

    load = Percentage()  # type: ignore[assignment]  # a field is not the class's attribute
    mlModelId = Text()
    accuracy = Number(0, 100)


class EvtContent(Schema):
    """What has happened to a member."""

    flMbrInfo = nested(FlMbrInfo, required=True)
    flMbrEnterLeave = EnterLeave()
    flMbrCapabilityUpdated = nested(ClientCapability)
    flMbrTimeAvail = nested(TimeWindow)
    areaOfInterest = nested(LocationArea)
    aimle = nested(EvtDetails)


class FlEvtsNotif(Schema):
    """News of FL members."""

    evtId = Text(required=True)
    evtTime = DateTime(required=True)
    evtArea = nested(LocationArea)
    evtContentList = array_of(EvtContent, required=True)
    energyInfo = nested(RenewableEnergyInfo)

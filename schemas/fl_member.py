"""Types of MLR_FLMember and AIMLES_FLMember (TS 29.482; TS 23.482 8.4): who offers to take part in FL."""

from schemas.base import OpenEnum, PatchSchema, Schema, Text, array_of, nested, texts
from schemas.client_registration import ClientCapability
from schemas.common import ScheduledCommunicationTime, TimeWindow
from schemas.fl_group_indication import FlGroupInfo
from schemas.location import GeographicArea, LocationArea, VelocityEstimate
from schemas.network import PlmnIdNid


class SuppAimlRoleType(OpenEnum):
    """What an FL member can be."""

    values = ("FL_CLIENT", "FL_SERVER")


class PlmnPermission(OpenEnum):
    """How much a network other than the serving one lets an FL member do."""

    values = ("FULL_CAPABILITIES", "LIMITED_CAPABILITIES")


class NonservingPlmn(Schema):
    """A network other than the serving one, and what it permits."""

    plmn = nested(PlmnIdNid, required=True)
    permission = PlmnPermission(required=True)


class AllowedMnoInfo(Schema):
    """The networks through which an FL member may be reached, and the AIMLE server of a VAL server."""

    servingPlmn = nested(PlmnIdNid, required=True)
    nonservingPlmns = array_of(NonservingPlmn, min_items=0)
    aimleServerId = Text()


class FlMbr(Schema):
    """An FL member; `supMlModelId` is a list, whatever its name."""

    any_of = ("flMbrCapability", "flMbrAvailSch")

    flMbrId = Text(required=True)
    flMbrSuppGrp = nested(FlGroupInfo, required=True)
    suppAimlRole = SuppAimlRoleType(required=True)
    flMbrCapability = nested(ClientCapability)
    flMbrVelocity = VelocityEstimate()
    flMbrLocation = nested(LocationArea)
    flMbrAvailSch = array_of(ScheduledCommunicationTime)
    supMlModelId = texts()
    areaValidity = GeographicArea()
    timeValidity = nested(TimeWindow)
    allowedMno = array_of(AllowedMnoInfo)


class FlMbrPatch(PatchSchema):
    """Changes to an FL member, which `flMbrId` names once more; `null` removes."""

    any_of = ("suppAimlRole", "flMbrAvailSch", "supMlModelId", "areaValidity", "timeValidity")

    flMbrId = Text(required=True)
    suppAimlRole = SuppAimlRoleType()
    flMbrAvailSch = array_of(ScheduledCommunicationTime)
    supMlModelId = texts()
    areaValidity = GeographicArea()
    timeValidity = nested(TimeWindow)
    allowedMno = array_of(AllowedMnoInfo)

"""Types of Aimlec_FLGroupIndication (TS 24.560; TS 23.482 8.17): groups of FL members."""

from schemas.base import Array, OpenEnum, Schema, Text, array_of, nested
from schemas.common import ValUeAddrInfo


class FlMemberRole(OpenEnum):
    """What a member does in its group."""

    values = ("FL_CLIENT", "FL_SERVER", "FL_AGGREGATOR")


class FlMemberAvailability(OpenEnum):
    """Whether a member can take part now."""

    values = ("AVAILABLE", "NOT_AVAILABLE")


class FlMemberConstraint(OpenEnum):
    """What a member is short of; the misspelt value is the standard's."""

    values = ("LIMITED_MEMORY", "LIMITED_PROCCESSING", "LIMITED_ACCESS")


class FlMemberInfo(Schema):
    """How a member of a group stands."""

    availability = FlMemberAvailability()
    constraints = Array(FlMemberConstraint())
    role = FlMemberRole()


class FlMemberData(Schema):
    """A member of a group: its identity, its address, or both."""

    flMemberId = Text()
    flMemberAddr = nested(ValUeAddrInfo)
    flMemberInfo = nested(FlMemberInfo)


class FlGroupInfo(Schema):
    """An FL group, and who is in it."""

    flGroupId = Text(required=True)
    flMembers = array_of(FlMemberData)

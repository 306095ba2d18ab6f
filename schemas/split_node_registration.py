"""Types of AIMLES_SplitOpNodeRegistration (TS 29.482; TS 23.482 8.14.2.4): who runs parts of split models."""

from schemas.base import PatchSchema, Schema, Text, nested, texts
from schemas.common import NetworkIpv4Addr, NetworkIpv6Addr, Port, TimeWindow, Uinteger, Uri


class ConnInfo(Schema):
    """Where a node is reached: one kind of address (TS 29.548, SDD_Transmission)."""

    one_of = ("ipv4Addr", "ipv6Addr", "uri")

    ipv4Addr = NetworkIpv4Addr()
    ipv6Addr = NetworkIpv6Addr()
    port = Port()
    uri = Uri()


class ModelInformation(Schema):
    """The model that a node can run, `*` for any, and what it can do with it."""

    modelId = Text(required=True)
    modelName = Text()
    modelVersion = Text(required=True)
    suppOperation = texts(required=True)


class UsageInformation(Schema):
    """How often inputs come and outputs go, and how large they are: planned, or the most that a node takes."""

    inputFreq = Uinteger()
    inputSize = Uinteger()
    outputFreq = Uinteger()
    outputSize = Uinteger()


class SplitOpCapabilities(Schema):
    """What a node can do."""

    modelInfo = nested(ModelInformation, required=True)
    usageInfo = nested(UsageInformation)


class SplitNodeExtension(Schema):
    """Our member `aimle` of nodes: where those that run what the server gives them serve AIMLE_SplitNode."""

    splitNodeUri = Uri(required=True)


class SplitOpNodeReg(Schema):
    """A node: where it is, what it can do, and from when to when."""

    nodeInfo = nested(ConnInfo, required=True)
    sonRegCapability = nested(SplitOpCapabilities, required=True)
    timeValidity = nested(TimeWindow)
    aimle = nested(SplitNodeExtension)


class SplitOpNodeRegPatch(PatchSchema):
    """Changes to a node; `null` removes."""

    sonRegCapability = nested(SplitOpCapabilities)
    timeValidity = nested(TimeWindow)
    aimle = nested(SplitNodeExtension)

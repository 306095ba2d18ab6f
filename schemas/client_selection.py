"""Types of AIMLES_AIMLEClientSelection (TS 29.482; TS 23.482 8.9): a client set for an operation."""

from schemas.base import Array, Schema, Text, nested
from schemas.client_discovery import ClientDiscCriteria
from schemas.common import AimleClientId, SupportedFeatures, Uinteger


class ClientSelReq(Schema):
    """Select among named clients, or among all that meet criteria."""

    one_of = ("clients", "selCriteria")

    valSvcId = Text()
    clients = Array(AimleClientId())
    selCriteria = nested(ClientDiscCriteria)
    reqNum = Uinteger()
    minNum = Uinteger()
    suppFeat = SupportedFeatures()


class ClientSelResp(Schema):
    """The selected clients, and the identity of the set they form."""

    clients = Array(AimleClientId())
    clientSet = Text()
    suppFeat = SupportedFeatures()

"""Types of AIMLES_AIMLEClientSelection (TS 29.482; TS 23.482 8.9, 8.13): clients for an operation, once or watched."""

from schemas.base import Array, PatchSchema, Schema, Text, array_of, nested
from schemas.client_discovery import ClientDiscCriteria
from schemas.common import AimleClientId, DateTime, SupportedFeatures, Uinteger, Uri
from schemas.reporting import SubscriptionExtension


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


class ClientSelSub(Schema):
    """Keep clients selected by criteria, and tell of each change."""

    selCriteria = nested(ClientDiscCriteria, required=True)
    reqNum = Uinteger()
    notifUri = Uri(required=True)
    suppFeat = SupportedFeatures()
    expTime = DateTime()
    aimle = nested(SubscriptionExtension)


class ClientSelSubPatch(PatchSchema):
    """Changes of a ClientSelSub."""

    selCriteria = nested(ClientDiscCriteria)
    reqNum = Uinteger()
    notifUri = Uri()
    aimle = nested(SubscriptionExtension)


class SelUpdate(Schema):
    """Who was replaced by whom; an empty text where there is nobody on that side."""

    replaced = Text(required=True)
    selected = Text(required=True)


class ClientSelNotif(Schema):
    """News of the selected clients."""

    reports = array_of(SelUpdate, required=True)
    timeStamp = DateTime()

"""Types of AIMLES_MLModelRetrieval (TS 29.482; TS 23.482 8.2): a model for whoever may have it."""

from schemas.base import PatchSchema, Schema, Text, array_of, nested
from schemas.common import DateTime, EndPoint, SupportedFeatures, UndeclaredBytes, Uri
from schemas.model_management import MLModel
from schemas.reporting import SubscriptionExtension


class MLModelDetail(Schema):
    """A model's identity, and where its bytes are or the bytes in base64."""

    any_of = ("mlMdlEndpoint", "mlModel")

    mlModelId = Text(required=True)
    mlMdlEndpoint = nested(EndPoint)
    mlModel = UndeclaredBytes()


class MLMdlRetReq(Schema):
    """Which models are wanted."""

    modelSelCrit = nested(MLModel)
    suppFeat = SupportedFeatures()


class MLMdlRetRsp(Schema):
    """The models."""

    mlModels = array_of(MLModelDetail, required=True)
    suppFeat = SupportedFeatures()


class MLMdlRetSub(Schema):
    """Tell of models that are wanted, as soon as there are some."""

    notifUri = Uri(required=True)
    modelSelCrit = nested(MLModel)
    expTime = DateTime()
    suppFeat = SupportedFeatures()
    aimle = nested(SubscriptionExtension)


class MLMdlRetSubPatch(PatchSchema):
    """Changes of an MLMdlRetSub."""

    notifUri = Uri()
    modelSelCrit = nested(MLModel)
    expTime = DateTime()
    aimle = nested(SubscriptionExtension)


class MlMdlRetNotif(Schema):
    """Models that are there now."""

    subId = Text(required=True)
    mlModels = array_of(MLModelDetail)

"""Types of AIMLES_MLModelRetrieval (TS 29.482; TS 23.482 8.2): a model for whoever may have it."""

from schemas.base import Schema, Text, array_of, nested
from schemas.common import EndPoint, SupportedFeatures, UndeclaredBytes
from schemas.model_management import MLModel


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

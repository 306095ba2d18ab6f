"""Types of AIMLES_MLModelUpdate (TS 29.482; TS 23.482 8.21): a better model for one that has become worse."""

from schemas.base import Schema, Text, nested
from schemas.common import Bytes, EndPoint, Uinteger
from schemas.model_management import MLModel


class MlMdlDegradedParam(Schema):
    """How a model does that has become worse (TS 29.482, MLModelPerfMonitor)."""

    recall = Uinteger(required=True)
    precision = Uinteger(required=True)
    accuracy = Uinteger(required=True)


class MLMdlUpdateReq(Schema):
    """The model to update, how it does, and where its bytes are."""

    mlModelId = Text(required=True)
    performanceDegradationInfo = nested(MlMdlDegradedParam)
    mlModelRetrievalEndpoint = nested(EndPoint)


class MLMdlUpdateRsp(Schema):
    """The updated model: its information, where its bytes are, or the bytes."""

    any_of = ("mlModelInformation", "mlModelRetrievalEndpoint")

    mlModelInformation = nested(MLModel)
    mlModelRetrievalEndpoint = nested(EndPoint)
    mlModel = Bytes()

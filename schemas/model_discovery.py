"""Types of MLR_ModelInformationDiscovery (TS 29.482; TS 23.482 8.11.3): models found by their information."""

from schemas.base import Flag, Schema, Text, array_of
from schemas.common import Bytes
from schemas.model_management import MLModelProfile


class MlModel(Schema):
    """A model's identity and its bytes in base64 (which this server never sends)."""

    mlModelId = Text(required=True)
    mlModel = Bytes()


class DiscoveryResp(Schema):
    """The models that were found: their profiles, or the models themselves."""

    one_of = ("profiles", "mlModels")

    profiles = array_of(MLModelProfile)
    mlModels = array_of(MlModel)
    indicator = Flag()

"""MLR_ModelInformationDiscovery (TS 29.482 6.2.2; TS 23.482 8.11.3)."""

from aiohttp import web

from ml_repository.keys import MODEL_DISCOVERY
from sbi.api import Api, Call, Operation, Query, ok
from sbi.mount import api_root
from schemas.common import SupportedFeatures
from schemas.model_discovery import DiscoveryResp
from schemas.model_management import MLModel


async def get_models(call: Call) -> web.Response:
    """The profiles of the models that meet the filter."""
    criteria = call.query["filt-criteria"]
    return ok(await call[MODEL_DISCOVERY].discover(call.caller, criteria, api_root(call.request)))


API = Api(
    name="MLR_ModelInformationDiscovery",
    spec="TS 29.482",
    version="1.0.0",
    base_path="/mlr-mid/v1",
    operations=(
        Operation(
            "GET",
            "/models",
            "GetMlModelInfo",
            get_models,
            query=(
                Query("filt-criteria", schema=MLModel(), required=True),
                Query("supported-features", SupportedFeatures()),
            ),
            answers={200: DiscoveryResp()},
            summary="Find models by what is known of them.",
        ),
    ),
)

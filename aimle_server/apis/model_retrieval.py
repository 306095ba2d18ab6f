"""AIMLES_MLModelRetrieval (TS 29.482 6.1.13; TS 23.482 8.2): models, once or as soon as there are some."""

from aiohttp import web

from aimle_server.apis.subscriptions import Names, subscription_operations
from aimle_server.services import SERVICES
from sbi.api import Api, Call, Callback, Operation, ok
from sbi.mount import api_root
from schemas.common import NO_FEATURES
from schemas.model_retrieval import (
    MlMdlRetNotif,
    MLMdlRetReq,
    MLMdlRetRsp,
    MLMdlRetSub,
    MLMdlRetSubPatch,
)


async def retrieve(call: Call) -> web.Response:
    """Endpoints of the models that meet the criteria."""
    criteria = call.body.get("modelSelCrit")
    answer = await call[SERVICES].retrieval.retrieve(call.caller, criteria, api_root(call.request))
    return ok({**answer, "suppFeat": NO_FEATURES} if "suppFeat" in call.body else answer)


API = Api(
    name="AIMLES_MLModelRetrieval",
    spec="TS 29.482",
    version="1.0.0",
    base_path="/aimles-mlmr/v1",
    operations=(
        *subscription_operations(
            lambda call: call[SERVICES].retrieval_subscriptions,
            Names(
                "CreateAimleMLModelRetrievalSubscription",
                "GetIndAimleMLModelRetrievalSubscription",
                "UpdateIndAimleMLModelRetrievalSubscription",
                "ModifyIndAimleMLModelRetrievalSubscription",
                "UnsubscribeAimleMLModelRetrievalSubscription",
            ),
            MLMdlRetSub(),
            MLMdlRetSubPatch(),
            Callback("myNotification", MlMdlRetNotif()),
            "models that meet criteria",
        ),
        Operation(
            "POST",
            "/retrieve",
            "RetrieveMLModel",
            retrieve,
            body=MLMdlRetReq(),
            answers={200: MLMdlRetRsp()},
            summary="Where to download the models that meet the criteria.",
        ),
    ),
)

"""AIMLES_MLModelTraining (TS 29.482; TS 23.482 8.3)."""

from aiohttp import web

from aimle_server.services import SERVICES
from sbi.api import Api, Call, Callback, Operation, ok
from schemas.model_training import MlModelTrainNotif, MlModelTrainResp, TrainRequest


async def request_train(call: Call) -> web.Response:
    """Begin a training."""
    return ok(await call[SERVICES].training.request(call.caller, call.body))


API = Api(
    name="AIMLES_MLModelTraining",
    spec="TS 29.482",
    version="1.0.0",
    base_path="/aimles-trn/v1",
    operations=(
        Operation(
            "POST",
            "/request-train",
            "RequestTrain",
            request_train,
            body=TrainRequest(),
            answers={200: MlModelTrainResp()},
            callback=Callback("myNotification", MlModelTrainNotif()),
            summary="Have a model trained by AIMLE clients.",
        ),
    ),
)

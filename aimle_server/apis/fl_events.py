"""MLR_FLEvents (TS 29.482 6.2.3; TS 23.482 8.5): what happens to FL members."""

from aimle_server.apis.subscriptions import Names, subscription_operations
from aimle_server.services import SERVICES
from sbi.api import Api, Callback
from schemas.fl_events import FlEvtsNotif, FlEvtsSub, FlEvtsSubPatch

API = Api(
    name="MLR_FLEvents",
    spec="TS 29.482",
    version="1.1.0-alpha.1",
    base_path="/mlr-fle/v1",
    operations=subscription_operations(
        lambda call: call[SERVICES].fl_event_subscriptions,
        Names(
            "SubFLEvents",
            "RetrieveFLEvents",
            "UpdateFLEvents",
            "ModifyPartiallyFLEvents",
            "DeleteFLEvents",
        ),
        FlEvtsSub(),
        FlEvtsSubPatch(),
        Callback("FlEvtsNotif", FlEvtsNotif()),
        "what happens to FL members",
    ),
)

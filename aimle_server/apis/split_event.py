"""AIMLES_SplitOpEvent (TS 29.482; TS 23.482 8.14.2.5): what becomes of pipelines, and what is available."""

from aimle_server.apis.subscriptions import Names, subscription_operations
from aimle_server.services import SERVICES
from sbi.api import Api, Callback
from schemas.split_event import SplitOpEventNotif, SplitOpEventSub, SplitOpEventSubPatch

API = Api(
    name="AIMLES_SplitOpEvent",
    spec="TS 29.482",
    version="1.0.1",
    base_path="/aimles-splitopevent/v1",
    operations=subscription_operations(
        lambda call: call[SERVICES].split_subscriptions,
        Names(
            "CreateAimleSplitOpEventSubscription",
            "GetIndAimleSplitOpEventSub",
            "UpdateIndAimleSplitOpEventSub",
            "ModifyIndAimleSplitOpEventSub",
            "UnsubscribeAimleSplitOpEventSub",
        ),
        SplitOpEventSub(),
        SplitOpEventSubPatch(),
        Callback("myNotification", SplitOpEventNotif()),
        "events of split operation",
    ),
)

"""For VAL servers (AIML-S): everything that a VAL server asks of an AIMLE server.

    credentials = ClientCredentials("val-1", secret)
    async with ValServer("https://aimle.example.com", credentials, listen=("127.0.0.1", 0)) as val:
        chosen = await val.select(discovery_criteria("val-1", datasets=["digits"]), req_num=10, min_num=8)
        await val.store_model("digits", parameters, domain="IMAGE_RECOGNITION")
        training = await val.train(
            model_id="digits",
            client_set=chosen.client_set,
            dataset_ids=["digits"],
            objective=Objective(target=0.95, max_epochs=40),
            profile=TrainingProfile(strategy="FEDADAM", local_epochs=2),
        )
        async for event in training.events():
            print(event.percentage, event.metrics)
        parameters = await val.download_model(event.output_model_id)

One module per group of operations (`clients`, `trainings`, `subscriptions`, `models`, `storages`, `fl_members`,
`pipelines`); `criteria` builds the large inputs, `values` has the rest. The large types of the standard are plain
dicts in wire shape.
"""

from aimle_client.events import (
    FLEvent,
    FLNews,
    MemberChange,
    ModelsEvent,
    Replacement,
    SelectionEvent,
    TrainingEvent,
)
from aimle_client.http import ClientCredentials, RetryPolicy
from aimle_client.val.criteria import (
    ANY_MODEL,
    discovery_criteria,
    fl_member,
    member_criteria,
    model_criteria,
)
from aimle_client.val.pipelines import Pipeline
from aimle_client.val.server import ValServer
from aimle_client.val.subscriptions import FLEventSubscription, ModelSubscription, SelectionSubscription
from aimle_client.val.training import Training
from aimle_client.val.values import (
    ClientSet,
    DiscoveredClients,
    FLEvents,
    FLMember,
    Objective,
    OperationInfo,
    ParticipantStatus,
    Reporting,
    RoundStatus,
    ServiceOperation,
    StopWhen,
    Storage,
    StoredModel,
    TaskMove,
    TrainingProfile,
    TrainingStatus,
)

__all__ = [
    "ANY_MODEL",
    "ClientCredentials",
    "ClientSet",
    "DiscoveredClients",
    "FLEvent",
    "FLEventSubscription",
    "FLEvents",
    "FLMember",
    "FLNews",
    "MemberChange",
    "ModelSubscription",
    "ModelsEvent",
    "Objective",
    "OperationInfo",
    "ParticipantStatus",
    "Pipeline",
    "Replacement",
    "Reporting",
    "RetryPolicy",
    "RoundStatus",
    "SelectionEvent",
    "SelectionSubscription",
    "ServiceOperation",
    "StopWhen",
    "Storage",
    "StoredModel",
    "TaskMove",
    "Training",
    "TrainingEvent",
    "TrainingProfile",
    "TrainingStatus",
    "ValServer",
    "discovery_criteria",
    "fl_member",
    "member_criteria",
    "model_criteria",
]

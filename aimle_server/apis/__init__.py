"""The APIs, one module each: a route table and its handlers.

`SERVED_APIS` is what this server answers, `ALL_APIS` what `specs/` documents: also the token endpoint, which a
server with another issuer does not have, and the APIs that AIMLE clients and nodes of pipelines serve.
"""

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_client.apis import NODE_APIS
from aimle_server.apis import (
    channels,
    client_discovery,
    client_registration,
    client_selection,
    fl_events,
    fl_member,
    hfl_management,
    model_retrieval,
    model_training,
    model_update,
    oauth,
    service_operations,
    split_event,
    split_join,
    split_node_registration,
    split_pipeline,
    task_transfer,
)
from ml_repository.apis import artifacts, model_discovery, model_management
from ml_repository.apis import fl_member as fl_member_repository
from sbi.api import Api

SERVED_APIS: tuple[Api, ...] = (
    client_registration.API,
    client_discovery.API,
    client_selection.API,
    fl_member.API,
    fl_member_repository.API,
    fl_events.API,
    model_management.API,
    model_discovery.API,
    model_retrieval.API,
    model_update.API,
    model_training.API,
    service_operations.API,
    split_node_registration.API,
    split_pipeline.API,
    split_event.API,
    split_join.API,
    task_transfer.API,
    task_transfer.TRANSFERS_API,
    artifacts.API,
    hfl_management.API,
    channels.API,
)

ALL_APIS: tuple[Api, ...] = (*SERVED_APIS, oauth.API, *CLIENT_APIS, *NODE_APIS)

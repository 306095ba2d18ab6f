"""The APIs that are not the server's, one table per module.

`APIS` are those that an AIMLE client serves, those of TS 24.560 (aimlec-*) and one of ours; `NODE_APIS` what a node of
split operation pipelines serves, our extension.
"""

from aimle_client.apis import hfl_training, participation, service_operations, split_node, task_transfer
from sbi.api import Api

APIS: tuple[Api, ...] = (
    participation.API,
    service_operations.API,
    hfl_training.API,
    task_transfer.API,
    task_transfer.STATES_API,
)
"""Of an AIMLE client, to mount and to document."""

NODE_APIS: tuple[Api, ...] = (split_node.API,)
"""Of a node."""

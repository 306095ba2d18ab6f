"""The APIs that an AIMLE client serves, those of TS 24.560 (aimlec-*) and one of ours."""

from aimle_client.apis import hfl_training, participation, service_operations, task_transfer
from sbi.api import Api

APIS: tuple[Api, ...] = (
    participation.API,
    service_operations.API,
    hfl_training.API,
    task_transfer.API,
    task_transfer.STATES_API,
)
"""All of them, to mount and to document."""

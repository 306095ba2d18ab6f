"""The aimlec-* APIs of TS 24.560 that an AIMLE client serves to AIMLE servers, one table per module."""

from aimle_client.apis import hfl_training, participation, service_operations
from sbi.api import Api

APIS: tuple[Api, ...] = (participation.API, service_operations.API, hfl_training.API)
"""All of them, to mount and to document."""

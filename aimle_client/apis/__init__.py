"""The APIs that are not the server's, one table per module.

`APIS` are the aimlec-* APIs of TS 24.560 that an AIMLE client serves to AIMLE servers, `NODE_APIS` what a node of split
operation pipelines serves, our extension.
"""

from aimle_client.apis import hfl_training, participation, service_operations, split_node
from sbi.api import Api

APIS: tuple[Api, ...] = (participation.API, service_operations.API, hfl_training.API)
"""Of an AIMLE client, to mount and to document."""

NODE_APIS: tuple[Api, ...] = (split_node.API,)
"""Of a node."""

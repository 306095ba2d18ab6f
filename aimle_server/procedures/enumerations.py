"""Discovery's enumerations in registration's words (TS 29.482 6.1.6.6.3, TS 24.560 6.3.6.3).

The two specifications name the same things differently (`FL`, `FEDERATED_LEARNING`). Both enumerations are
open: a value that a table does not list stands for itself and so matches only its equal.
"""

from collections.abc import Mapping

Table = Mapping[str, str]

SERVICE_PERMISSION_LEVEL: Table = {
    "PREMIUM": "PREMIUM_RESOURCE_USAGE",
    "STANDARD": "STANDARD_RESOURCE_USAGE",
    "LIMITED": "LIMITED_RESOURCE_USAGE",
}
"""ServicePermLevel as ServicePermissionLevel."""

MODEL_TYPE: Table = {
    "DECISION_TREES": "DECISION_TREE",
    "LINEAR_REGRESSION": "LINEAR_REGRESSION",
    "NEURAL_NETWORKS": "NEURAL_NETWORK",
}
"""MlModelType as AimlModelType."""

OPERATION: Table = {
    "MODEL_TRAINING": "MODEL_TRAINING",
    "MODEL_TRANSFER": "MODEL_TRANSFER",
    "MODEL_INFERENCE": "MODEL_INFERENCE",
    "MODEL_OFFLOAD": "MODEL_OFFLOAD",
    "MODEL_SPLIT": "MODEL_SPLIT",
}
"""AimlOperationRole as AimlOperation."""

APPLICATION_TYPE: Table = {
    "FL": "FEDERATED_LEARNING",
    "TL": "TRANSFER_LEARNING",
    "SL": "SPLIT_LEARNING",
}
"""MlAppType as MlApplicationType."""

DATA_TYPE: Table = {
    "RAW": "RAW_DATA",
    "PROCESSED": "PROCESSED_DATA",
}
"""DataType as DataCapability."""

DATA_FUNCTION: Table = {
    "STRUCTURED_DATA": "STRUCURED_DATA",
    "EXPLORATORY_DATA_ANALYSIS": "EXPLOATORY_DATA_ANALYSIS",
}
"""DatasetCapability.functions, which is free text, as DataCapability, two of whose values are misspelt."""

COMPUTE_CAPABILITY: Table = {
    "LOW": "LOW_COMPUTE_CAPABILITY",
    "HIGH": "HIGH_COMPUTE_CAPABILITY",
}
"""ComputeCapability as TaskCapability."""

PERFORMANCE_CAPABILITY: Table = {
    "GREEN_TASK": "GREEN_TASK_PERFORMANCE",
    "ENERGY_EFFICIENT": "ENERGY_EFFICIENT_PERFORMANCE",
    "LOW_COSTS": "LOW_COSTS_PERFORMANCE",
}
"""PerformanceCapability as TaskCapability."""


def registered(table: Table, value: str) -> str:
    """What a registration calls `value` of a discovery enumeration."""
    return table.get(value, value)

"""One table for each pair of enumerations that discovery and registration name differently."""

import pytest

from aimle_server.procedures import enumerations as e
from schemas import client_discovery as d
from schemas import client_registration as r

PAIRS = [
    (d.ServicePermLevel, e.SERVICE_PERMISSION_LEVEL, r.ServicePermissionLevel),
    (d.MlModelType, e.MODEL_TYPE, r.AimlModelType),
    (d.AimlOperationRole, e.OPERATION, r.AimlOperation),
    (d.MlAppType, e.APPLICATION_TYPE, r.MlApplicationType),
    (d.DataType, e.DATA_TYPE, r.DataCapability),
    (d.ComputeCapability, e.COMPUTE_CAPABILITY, r.TaskCapability),
    (d.PerformanceCapability, e.PERFORMANCE_CAPABILITY, r.TaskCapability),
]


@pytest.mark.parametrize(("asked", "table", "stated"), PAIRS, ids=lambda part: getattr(part, "__name__", ""))
def test_every_listed_value_has_a_counterpart(asked: type, table: e.Table, stated: type) -> None:
    """Each value that discovery lists means one value that registration lists, and no two mean the same."""
    assert set(table) == set(asked.values)  # type: ignore[attr-defined]
    assert set(table.values()) <= set(stated.values)  # type: ignore[attr-defined]
    assert len(set(table.values())) == len(table)


def test_data_functions_lead_to_listed_values() -> None:
    """The correct spelling of a data function means the standard's misspelt value."""
    assert set(e.DATA_FUNCTION.values()) <= set(r.DataCapability.values)


def test_an_unlisted_value_stands_for_itself() -> None:
    """Open enumerations: a value nobody lists is not translated."""
    assert e.registered(e.APPLICATION_TYPE, "SWARM_LEARNING") == "SWARM_LEARNING"

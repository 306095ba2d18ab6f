"""What an FL member may state, beyond what its types say."""

from typing import Any

import pytest

from ml_repository.fl_member_registration import check
from sbi.errors import InvalidRequest
from tests.support import START
from tests.support_fl_members import fl_mbr, whole_fl_mbr


def window(start: str, stop: str) -> dict[str, str]:
    """A TimeWindow around START, which is 2030-01-01."""
    return {"startTime": f"{start}T00:00:00Z", "stopTime": f"{stop}T00:00:00Z"}


def polygon(*corners: tuple[float, float]) -> dict[str, Any]:
    """A GeographicArea."""
    return {"shape": "POLYGON", "pointList": [{"lon": lon, "lat": lat} for lon, lat in corners]}


def group(*members: dict[str, Any]) -> dict[str, Any]:
    """A FlGroupInfo."""
    return {"flGroupId": "group-1", "flMembers": list(members)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"timeValidity": window("2029-01-01", "2030-01-02")},
        {"timeValidity": window("2031-01-01", "2031-01-02")},
        {"timeValidity": {"startTime": "2030-01-01T23:00:00Z", "stopTime": "2030-01-01T23:30:00-01:00"}},
        {"areaValidity": polygon((7, 50), (8, 50), (8, 51))},
        {"flMbrSuppGrp": group({"flMemberAddr": {"valUeIpv4Addr": "192.0.2.1"}}, {"flMemberId": "ue-1"})},
    ],
)
def test_what_makes_sense(changes: dict[str, Any]) -> None:
    """What a member states passes, its time may have begun or be to come."""
    check(fl_mbr(**changes), START)
    check(whole_fl_mbr() | changes, START)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"flMbrId": ""}, "/flMbrId"),
        ({"flMbrSuppGrp": group({"flMemberId": "ue-1"}, {"flMemberInfo": {}})}, "/flMbrSuppGrp/flMembers/1"),
        ({"supMlModelId": ["model-1", ""]}, "/supMlModelId/1"),
        ({"supMlModelId": ["*"]}, "/supMlModelId/0"),
        ({"areaValidity": polygon((7, 50), (8, 50), (7, 50), (8, 50))}, "/areaValidity/pointList"),
        ({"timeValidity": window("2030-01-03", "2030-01-02")}, "/timeValidity/stopTime"),
        ({"timeValidity": window("2030-01-02", "2030-01-02")}, "/timeValidity/stopTime"),
        ({"timeValidity": window("2029-01-01", "2030-01-01")}, "/timeValidity/stopTime"),
        ({"timeValidity": window("2029-01-01", "2029-12-31")}, "/timeValidity/stopTime"),
    ],
)
def test_what_makes_none(changes: dict[str, Any], pointer: str) -> None:
    """Nobody, no model, no area, and a time that is over or has no length are refused by name."""
    with pytest.raises(InvalidRequest) as refused:
        check(fl_mbr(**changes), START)
    assert [param.param for param in refused.value.invalid_params] == [pointer]


def test_everything_that_is_wrong_is_named() -> None:
    """One refusal names all that makes no sense."""
    with pytest.raises(InvalidRequest) as refused:
        check(fl_mbr("", supMlModelId=[".", ".."], timeValidity=window("2030-01-03", "2030-01-02")), START)
    assert [param.param for param in refused.value.invalid_params] == [
        "/flMbrId",
        "/supMlModelId/0",
        "/supMlModelId/1",
        "/timeValidity/stopTime",
    ]

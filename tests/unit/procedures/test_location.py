"""Requested places against what a client states, and against where it is known to be."""

from collections.abc import Mapping
from typing import Any

import pytest

from aimle_server.procedures.external import LocationService, NoService
from aimle_server.procedures.location import is_located

PLMN = {"mcc": "244", "mnc": "05"}


def network(**kinds: Any) -> dict[str, Any]:
    return {"nwAreaInfo": kinds}


def tai(tac: str) -> dict[str, Any]:
    return {"plmnId": PLMN, "tac": tac}


def circle(lon: float, radius: float = 1000) -> dict[str, Any]:
    area = {"shape": "POINT_UNCERTAINTY_CIRCLE", "point": {"lat": 60.0, "lon": lon}, "uncertainty": radius}
    return {"geographicAreas": [area]}


def address(**elements: str) -> dict[str, Any]:
    return {"civicAddresses": [elements]}


def cell(kind: str, value: str) -> dict[str, Any]:
    return {"plmnId": PLMN, kind: value}


def available(*places: dict[str, Any], but: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    profile = {"availLocCfgs": [{"clientLoc": place} for place in places]} if places else {}
    return profile | ({"unavblLocCfgs": [{"clientLoc": place} for place in but]} if but else {})


GNB = {"plmnId": PLMN, "gNbId": {"bitLength": 24, "gNBValue": "0000AF"}}
OTHER_GNB = {"plmnId": PLMN, "gNbId": {"bitLength": 24, "gNBValue": "0000B0"}}
HELSINKI = address(country="FI", A3="Helsinki")

STATED = [
    ("nothing stated", available(), network(tais=[tai("00a1")]), False),
    ("tracking area", available(network(tais=[tai("00A1")])), network(tais=[tai("00a1")]), True),
    ("other tracking area", available(network(tais=[tai("00A2")])), network(tais=[tai("00a1")]), False),
    (
        "E-UTRA cell",
        available(network(ecgis=[cell("eutraCellId", "0000001")])),
        network(ecgis=[cell("eutraCellId", "0000001")]),
        True,
    ),
    (
        "other E-UTRA cell",
        available(network(ecgis=[cell("eutraCellId", "0000001")])),
        network(ecgis=[cell("eutraCellId", "0000002")]),
        False,
    ),
    (
        "NR cell",
        available(network(ncgis=[cell("nrCellId", "00000000A")])),
        network(ncgis=[cell("nrCellId", "00000000a")]),
        True,
    ),
    (
        "other NR cell",
        available(network(ncgis=[cell("nrCellId", "00000000A")])),
        network(ncgis=[cell("nrCellId", "00000000B")]),
        False,
    ),
    ("RAN node", available(network(gRanNodeIds=[GNB])), network(gRanNodeIds=[GNB]), True),
    ("other RAN node", available(network(gRanNodeIds=[GNB])), network(gRanNodeIds=[OTHER_GNB]), False),
    ("area", available(circle(25.0)), circle(25.01), True),
    ("area far off", available(circle(25.0)), circle(26.0), False),
    (
        "address in a stated city",
        available(HELSINKI),
        address(country="FI", A3="helsinki", RD="Mannerheimintie"),
        True,
    ),
    ("city of a stated address", available(address(country="FI", A3="Helsinki", RD="X")), HELSINKI, True),
    ("other city", available(HELSINKI), address(country="FI", A3="Turku"), False),
    (
        "one of two places",
        available(circle(25.0), network(tais=[tai("00A1")])),
        network(tais=[tai("00A9"), tai("00A1")]),
        True,
    ),
    ("kinds that cannot be compared", available(circle(25.0)), HELSINKI, False),
    (
        "within an unavailable area",
        available(circle(25.0, 9000), but=(circle(25.0, 3000),)),
        circle(25.0),
        False,
    ),
    (
        "partly in an unavailable area",
        available(circle(25.0, 9000), but=(circle(25.03, 1000),)),
        circle(25.0, 2000),
        True,
    ),
    (
        "unavailable address",
        available(HELSINKI, but=(address(A3="Helsinki", RD="X"),)),
        address(A3="Helsinki", country="FI", RD="X"),
        False,
    ),
    ("only unavailable areas", available(but=(circle(26.0),)), circle(25.0), False),
    ("a place without areas", available(), {"geographicAreas": []}, True),
]


@pytest.mark.parametrize(
    ("profile", "requested", "expected"), [case[1:] for case in STATED], ids=[case[0] for case in STATED]
)
async def test_stated_areas(profile: dict[str, Any], requested: dict[str, Any], expected: bool) -> None:
    """Where nobody knows where the client is, its own word counts: available there, and not unavailable."""
    assert await is_located(requested, "ue-1", profile, NoService()) is expected


class Seen(NoService):
    """A location service that knows one place, and one VAL service area."""

    def __init__(self, here: dict[str, Any] | None, area: dict[str, Any] | None = None) -> None:
        self.here = here
        self.area = area

    async def area_of(self, client_id: str) -> Mapping[str, Any] | None:
        return self.here

    async def service_area(self, area_id: str) -> Mapping[str, Any] | None:
        return self.area if area_id == "harbour" else None


KNOWN = [
    ("there, nothing stated", Seen(circle(25.0)), available(), circle(25.01), True),
    ("elsewhere, whatever is stated", Seen(circle(26.0)), available(circle(25.0)), circle(25.0), False),
    ("outside of where it takes part", Seen(circle(26.0)), available(circle(25.0)), None, False),
    ("where it takes part", Seen(circle(25.0)), available(circle(25.0)), None, True),
    ("where it does not take part", Seen(circle(25.0, 10)), available(but=(circle(25.0),)), None, False),
    ("nothing asked, nothing stated", Seen(circle(25.0)), available(), None, True),
]


@pytest.mark.parametrize(
    ("service", "profile", "requested", "expected"),
    [case[1:] for case in KNOWN],
    ids=[case[0] for case in KNOWN],
)
async def test_known_location(
    service: LocationService, profile: dict[str, Any], requested: dict[str, Any] | None, expected: bool
) -> None:
    """Where a location service knows where the client is, that decides, within what the client states."""
    assert await is_located(requested, "ue-1", profile, service) is expected


async def test_val_service_area() -> None:
    """A VAL service area is the area that the location service knows it as, and none without one."""
    profile = {"availLocCfgs": [{"valSvcAreaId": "harbour"}]}
    assert await is_located(circle(25.0), "ue-1", profile, Seen(None, circle(25.0)))
    assert not await is_located(circle(25.0), "ue-1", profile, NoService())

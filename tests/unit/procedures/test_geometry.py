"""Geographic areas of a few hundred metres: which of them meet, and which lie in which."""

from typing import Any

import pytest

from aimle_server.procedures.geometry import METRES_PER_DEGREE, contains, intersect

Area = dict[str, Any]
LAT, LON = 60.0, 25.0


def spot(east: float, north: float) -> dict[str, float]:
    """Metres from (LAT, LON); at 60 degrees north a degree of longitude is half as wide."""
    return {"lat": LAT + north / METRES_PER_DEGREE, "lon": LON + east / METRES_PER_DEGREE * 2}


def point(east: float, north: float) -> Area:
    return {"shape": "POINT", "point": spot(east, north)}


def circle(east: float, north: float, radius: float) -> Area:
    return {"shape": "POINT_UNCERTAINTY_CIRCLE", "point": spot(east, north), "uncertainty": radius}


def polygon(*corners: tuple[float, float]) -> Area:
    return {"shape": "POLYGON", "pointList": [spot(*corner) for corner in corners]}


def ellipse(east: float, north: float, major: float, minor: float) -> Area:
    size = {"semiMajor": major, "semiMinor": minor, "orientationMajor": 0}
    shape = "POINT_UNCERTAINTY_ELLIPSE"
    return {"shape": shape, "point": spot(east, north), "uncertaintyEllipse": size, "confidence": 90}


def arc(east: float, north: float, inner: int, width: float) -> Area:
    sizes = {"innerRadius": inner, "uncertaintyRadius": width, "offsetAngle": 0, "includedAngle": 90}
    return {"shape": "ELLIPSOID_ARC", "point": spot(east, north), "confidence": 90, **sizes}


SQUARE = polygon((0, 0), (1000, 0), (1000, 1000), (0, 1000))
L_SHAPE = polygon((0, 0), (1000, 0), (1000, 200), (200, 200), (200, 1000), (0, 1000))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (point(0, 0), point(0, 0), True),
        (point(0, 0), point(5, 0), False),
        (circle(0, 0, 300), circle(500, 0, 250), True),
        (circle(0, 0, 300), circle(600, 0, 250), False),
        (SQUARE, point(500, 500), True),
        (SQUARE, point(1100, 500), False),
        (SQUARE, circle(1100, 500, 150), True),
        (SQUARE, circle(1100, 1100, 130), False),
        (SQUARE, circle(500, 500, 10), True),
        (L_SHAPE, point(600, 600), False),
        (L_SHAPE, circle(600, 600, 450), True),
        (SQUARE, polygon((900, 900), (2000, 900), (2000, 2000)), True),
        (SQUARE, polygon((1500, 0), (2000, 0), (2000, 500)), False),
        (
            polygon((-500, 400), (1500, 400), (1500, 600), (-500, 600)),
            polygon((400, -500), (600, -500), (600, 1500), (400, 1500)),
            True,
        ),
        (SQUARE, polygon((400, 400), (600, 400), (600, 600)), True),
        (ellipse(0, 0, 400, 10), point(390, 0), True),
        (ellipse(0, 0, 400, 10), point(410, 0), False),
        (arc(0, 0, 300, 100), point(0, 390), True),
        (arc(0, 0, 300, 100), point(0, 410), False),
        (SQUARE, {"shape": "SOMETHING_NEW"}, False),
    ],
)
def test_areas_meet(one: Area, other: Area, expected: bool) -> None:
    """Two areas meet when they share a point, whichever is named first."""
    assert intersect(one, other) is expected
    assert intersect(other, one) is expected


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (circle(0, 0, 500), circle(100, 0, 300), True),
        (circle(0, 0, 500), circle(300, 0, 300), False),
        (SQUARE, circle(500, 500, 400), True),
        (SQUARE, circle(500, 500, 600), False),
        (SQUARE, point(1, 1), True),
        (circle(500, 500, 800), SQUARE, True),
        (circle(500, 500, 600), SQUARE, False),
        (SQUARE, polygon((100, 100), (900, 100), (500, 900)), True),
        (SQUARE, polygon((100, 100), (1100, 100), (500, 900)), False),
        (L_SHAPE, polygon((100, 900), (900, 100), (100, 100)), False),
        (point(0, 0), SQUARE, False),
        (SQUARE, {"shape": "SOMETHING_NEW"}, False),
    ],
)
def test_area_within_another(outer: Area, inner: Area, expected: bool) -> None:
    """An area lies in another when no part of it is outside."""
    assert contains(outer, inner) is expected


def test_areas_meet_across_the_date_line() -> None:
    """179.999 degrees east and 179.999 degrees west are neighbours."""
    east = {"shape": "POINT_UNCERTAINTY_CIRCLE", "point": {"lat": 0.0, "lon": 179.999}, "uncertainty": 200}
    west = {"shape": "POINT_UNCERTAINTY_CIRCLE", "point": {"lat": 0.0, "lon": -179.999}, "uncertainty": 200}
    assert intersect(east, west)

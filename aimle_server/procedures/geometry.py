"""Geographic areas (TS 29.572 GeographicArea): whether two meet, and whether one lies within another.

An area is taken as a disc or a polygon on a plane around it, which is exact to well under a percent for the
size of a cell or a city. An ellipse counts as the disc around it, an arc as the disc to its outer radius, an
altitude is not looked at: a UE at the rim may be found near a place it is just outside of, never the reverse.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Wire = Mapping[str, Any]
Point = tuple[float, float]
"""East and north of the plane's origin, in metres."""

METRES_PER_DEGREE = 111_195.0
"""Of latitude, on a sphere of the Earth's mean radius."""


@dataclass(frozen=True)
class Shape:
    """Everything within `radius` metres of the polygon, or of the point, that `corners` gives."""

    corners: tuple[Point, ...]
    radius: float


def intersect(one: Wire, other: Wire) -> bool:
    """Whether two GeographicAreas share a point; an area of an unknown shape shares none."""
    pair = _on_one_plane(one, other)
    if pair is None:
        return False
    a, b = pair
    return _distance(a, b) <= a.radius + b.radius


def contains(outer: Wire, inner: Wire) -> bool:
    """Whether the GeographicArea `inner` lies within `outer`."""
    pair = _on_one_plane(outer, inner)
    if pair is None:
        return False
    out, inn = pair
    if len(out.corners) == 1:
        centre = out.corners[0]
        return all(math.dist(centre, corner) + inn.radius <= out.radius for corner in inn.corners)
    inside = all(_is_inside(corner, out) for corner in inn.corners)
    return inside and all(
        _segment_distance(edge, side) >= inn.radius and not _cross(edge, side)
        for edge in _edges(inn)
        for side in _edges(out)
    )


def _on_one_plane(one: Wire, other: Wire) -> tuple[Shape, Shape] | None:
    origin = _points(one)[:1]
    if not origin or not _points(other):
        return None
    return _project(one, origin[0]), _project(other, origin[0])


def _points(area: Wire) -> Sequence[Wire]:
    """The coordinates that an area is drawn by; none: a shape that this module does not know."""
    if "pointList" in area:
        return area["pointList"]  # type: ignore[no-any-return]
    return [area["point"]] if "point" in area else []


def _project(area: Wire, origin: Wire) -> Shape:
    shrink = math.cos(math.radians(origin["lat"]))
    corners = tuple(
        (
            ((point["lon"] - origin["lon"] + 180) % 360 - 180) * METRES_PER_DEGREE * shrink,
            (point["lat"] - origin["lat"]) * METRES_PER_DEGREE,
        )
        for point in _points(area)
    )
    return Shape(corners, _radius(area))


def _radius(area: Wire) -> float:
    if "uncertaintyEllipse" in area:
        ellipse = area["uncertaintyEllipse"]
        return float(max(ellipse["semiMajor"], ellipse["semiMinor"]))
    if "innerRadius" in area:
        return float(area["innerRadius"] + area["uncertaintyRadius"])
    return float(area.get("uncertainty", 0))


def _distance(a: Shape, b: Shape) -> float:
    """Metres between the drawn points and lines, 0 where a polygon holds the other shape."""
    if _is_inside(a.corners[0], b) or _is_inside(b.corners[0], a):
        return 0
    return min(
        0 if _cross(edge, side) else _segment_distance(edge, side) for edge in _edges(a) for side in _edges(b)
    )


Segment = tuple[Point, Point]


def _edges(shape: Shape) -> Iterator[Segment]:
    """The polygon's sides; a point is one side without length."""
    corners = shape.corners
    if len(corners) == 1:
        yield corners[0], corners[0]
    else:
        yield from zip(corners, corners[1:] + corners[:1], strict=True)


def _is_inside(point: Point, shape: Shape) -> bool:
    """Even-odd rule: a ray to the east crosses the polygon's boundary an odd number of times."""
    if len(shape.corners) == 1:
        return False
    x, y = point
    inside = False
    for (x1, y1), (x2, y2) in _edges(shape):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


def _cross(one: Segment, other: Segment) -> bool:
    """Whether two sides cross in their interiors."""
    a, b = one
    c, d = other
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _segment_distance(one: Segment, other: Segment) -> float:
    """Metres between two sides that do not cross: an end of one is nearest to the other."""
    return min(
        _point_distance(one[0], other),
        _point_distance(one[1], other),
        _point_distance(other[0], one),
        _point_distance(other[1], one),
    )


def _point_distance(point: Point, side: Segment) -> float:
    (x1, y1), (x2, y2) = side
    dx, dy = x2 - x1, y2 - y1
    length = dx * dx + dy * dy
    along = ((point[0] - x1) * dx + (point[1] - y1) * dy) / length if length else 0.0
    along = min(1.0, max(0.0, along))
    return math.dist(point, (x1 + along * dx, y1 + along * dy))

"""Where a client is or may take part (TS 23.482 8.7.3.2, 8.8.2.1), compared with a requested place.

A place is a LocationArea5G: geographic areas, civic addresses, cells, RAN nodes and tracking areas, any one
of which will do. Only areas of one kind are compared: nothing here knows which cell covers which street. A
place that names none of them asks for nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aimle_server.procedures import geometry
from aimle_server.procedures.external import LocationService

Wire = Mapping[str, Any]
Area = tuple[str, Wire]
"""One area of a LocationArea5G and the attribute it stands in, which tells its kind."""

_NOT_A_PLACE = {"usageRules", "method", "providedBy"}
"""Attributes of a CivicAddress that say nothing about where it is."""


async def is_located(requested: Wire | None, client_id: str, profile: Wire, service: LocationService) -> bool:
    """Whether the client may be asked for work in the requested LocationArea5G (None: anywhere).

    Where the location service knows where the client is, that decides, and the client must be where its
    profile says that it takes part. Otherwise the profile's word is taken: an available area meets the
    requested one, and the requested one is not within an unavailable area.
    """
    here = await service.area_of(client_id)
    if here is not None:
        return _meets(here, requested) and await _takes_part(here, profile, service)
    if requested is None or not any(_areas(requested)):
        return True
    return bool(profile.get("availLocCfgs")) and await _takes_part(requested, profile, service)


async def _takes_part(place: Wire, profile: Wire, service: LocationService) -> bool:
    """Whether an area of `place` meets a stated available area, if any is stated, and is not unavailable."""
    available = await _stated(profile.get("availLocCfgs", ()), service)
    unavailable = await _stated(profile.get("unavblLocCfgs", ()), service)
    return any(
        (not profile.get("availLocCfgs") or any(_intersect(area, stated) for stated in available))
        and not any(_contains(stated, area) for stated in unavailable)
        for area in _areas(place)
    )


async def _stated(configurations: Any, service: LocationService) -> list[Area]:
    """The areas of LocationConfigs; a VAL service area counts where the location service knows it."""
    areas: list[Area] = []
    for configuration in configurations:
        areas += _areas(configuration.get("clientLoc", {}))
        if "valSvcAreaId" in configuration:
            areas += _areas(await service.service_area(configuration["valSvcAreaId"]) or {})
    return areas


def _meets(here: Wire, requested: Wire | None) -> bool:
    wanted = list(_areas(requested or {}))
    return not wanted or any(_intersect(area, other) for area in _areas(here) for other in wanted)


def _areas(place: Wire) -> Iterator[Area]:
    network = place.get("nwAreaInfo", {})
    for holder, kinds in ((place, ("geographicAreas", "civicAddresses")), (network, _NETWORK_KINDS)):
        for kind in kinds:
            for area in holder.get(kind, ()):
                yield kind, area


def _intersect(one: Area, other: Area) -> bool:
    (kind, a), (other_kind, b) = one, other
    return kind == other_kind and _INTERSECT[kind](a, b)


def _contains(outer: Area, inner: Area) -> bool:
    (kind, a), (other_kind, b) = outer, inner
    return kind == other_kind and _CONTAINS[kind](a, b)


def _holds_address(outer: Wire, inner: Wire) -> bool:
    """Whether every element of the outer civic address is the inner one's too: `DE` holds `DE, Berlin`."""
    elements = {key: value for key, value in outer.items() if key not in _NOT_A_PLACE}
    return bool(elements) and all(
        value.casefold() == inner.get(key, "").casefold() for key, value in elements.items()
    )


def _is_same(one: Any, other: Any) -> bool:
    """Equality of network identifiers, whose hexadecimal digits may be of either case."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    return bool(one == other)


Relation = Callable[[Wire, Wire], bool]
_NETWORK_KINDS = ("ecgis", "ncgis", "gRanNodeIds", "tais")
_SAME: dict[str, Relation] = dict.fromkeys(_NETWORK_KINDS, _is_same)
_INTERSECT: dict[str, Relation] = {
    **_SAME,
    "geographicAreas": geometry.intersect,
    "civicAddresses": lambda one, other: _holds_address(one, other) or _holds_address(other, one),
}
_CONTAINS: dict[str, Relation] = {
    **_SAME,
    "geographicAreas": geometry.contains,
    "civicAddresses": _holds_address,
}

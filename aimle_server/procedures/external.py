"""What the server can only learn from other services, as named seams (TS 23.482 8.8.2.1, 8.9.2.1).

Where a UE is, how fast it moves, which QoS it gets and which edge server stands near it is known to the 5G
core (GMLC, NEF, NWDAF) and to SEAL (location management, SEALDD). Whoever connects one of them implements
its protocol here. Nothing is connected by default, and a criterion nobody can check is not met.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Wire = Mapping[str, Any]


class LocationService(Protocol):
    """Where UEs are: SEAL-LMS, GMLC or NEF."""

    async def area_of(self, client_id: str) -> Wire | None:
        """The LocationArea5G that the client is in now; None: not known."""
        ...

    async def service_area(self, area_id: str) -> Wire | None:
        """The LocationArea5G of a VAL service area (SS_VALServiceAreaConfiguration); None: not known."""
        ...


class VelocityService(Protocol):
    """How UEs move: NEF or NWDAF."""

    async def velocity_of(self, client_id: str) -> str | None:
        """`STATIC`, `MOBILE_LOW` or `MOBILE_HIGH`; None: not known."""
        ...


class QosService(Protocol):
    """How well UEs are connected: SEALDD's transmission quality measurement."""

    async def meets(self, client_id: str, requirements: Sequence[Wire]) -> bool:
        """Whether the client's connection meets every TransQualMeasCriteriaSet."""
        ...


class EdgeServers(Protocol):
    """Which edge deployed AIMLE server serves which client (TS 23.482 8.27)."""

    async def serves(self, edge: Wire, client_id: str) -> bool:
        """Whether the EdgeAIMLES that `edge` describes serves the client."""
        ...


class NoService:
    """Every seam with nothing behind it: nothing is known, nothing is met."""

    async def area_of(self, client_id: str) -> Wire | None:
        """Not known."""
        return None

    async def service_area(self, area_id: str) -> Wire | None:
        """Not known."""
        return None

    async def velocity_of(self, client_id: str) -> str | None:
        """Not known."""
        return None

    async def meets(self, client_id: str, requirements: Sequence[Wire]) -> bool:
        """Not met."""
        return False

    async def serves(self, edge: Wire, client_id: str) -> bool:
        """Not served."""
        return False


_NOTHING = NoService()


@dataclass(frozen=True)
class External:
    """The services that are connected."""

    location: LocationService = _NOTHING
    velocity: VelocityService = _NOTHING
    qos: QosService = _NOTHING
    edge: EdgeServers = _NOTHING

    @property
    def locates(self) -> bool:
        """Whether a location service is connected."""
        return self.location is not _NOTHING

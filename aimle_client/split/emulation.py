"""Devices and links as slow as others would be, for demonstrations and trials on one machine."""

from dataclasses import dataclass, field

from yarl import URL


@dataclass(frozen=True)
class LinkShape:
    """How fast a way is: bytes per second, and seconds that each byte is under way."""

    bytes_per_s: float
    latency_s: float


@dataclass
class Emulation:
    """How slow a node acts; may be changed while it runs.

    Attributes:
        slowdown: how many times slower it computes than it could.
        links: its ways to others, by the origin of their URL, `http://127.0.0.1:9001`; connections that are made later
            are as slow, in both directions, and ways that are not here are as fast as they are.
    """

    slowdown: float = 1.0
    links: dict[str, LinkShape] = field(default_factory=dict)

    def link_to(self, url: str) -> LinkShape | None:
        """How slow the way to this address is made; None: it is as it is."""
        return self.links.get(str(URL(url).origin()))


REAL = Emulation()
"""As fast as it is; not to be changed."""

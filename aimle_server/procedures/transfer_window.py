"""When a task may change hands (TS 23.482 8.6): spans of time, and what availability schedules leave of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from aimle_server.procedures import availability
from sbi.clock import from_wire, to_wire
from sbi.errors import InvalidRequest

Wire = Mapping[str, Any]

LENGTH = timedelta(minutes=10)
"""How long a window is where the request does not say."""


@dataclass(frozen=True)
class Window:
    """From `start` to `stop`, which is later."""

    start: datetime
    stop: datetime

    @classmethod
    def of_wire(cls, wire: Wire, pointer: str) -> Self:
        """A TimeWindow.

        Raises:
            InvalidRequest: it does not end after it begins; `pointer` says where it stands.
        """
        start, stop = from_wire(wire["startTime"]), from_wire(wire["stopTime"])
        if start >= stop:
            raise InvalidRequest.of(pointer, "ends before it begins")
        return cls(start, stop)

    def to_wire(self) -> dict[str, str]:
        """As a TimeWindow."""
        return {"startTime": to_wire(self.start), "stopTime": to_wire(self.stop)}

    def within(self, other: "Window") -> "Window | None":
        """What both have in common; None: nothing."""
        start, stop = max(self.start, other.start), min(self.stop, other.stop)
        return Window(start, stop) if start < stop else None


def wanted_window(body: Wire, now: datetime) -> Window:
    """What a request leaves of the time from now on: its transfer time and its validity, or `LENGTH` without both.

    Raises:
        InvalidRequest: a span of it is none, or is over.
    """
    window = Window(now, now + LENGTH)
    said = [name for name in ("aimlTaskTransferTime", "timeValidity") if name in body]
    if said:
        window = Window(now, Window.of_wire(body[said[0]], f"/{said[0]}").stop)
    for name in said:
        common = window.within(Window.of_wire(body[name], f"/{name}")) if window.start < window.stop else None
        if common is None:
            raise InvalidRequest.of(f"/{name}", "is over, or leaves no time for the transfer")
        window = common
    return window


def available_window(profile: Wire, wanted: Window, needed: timedelta) -> Window | None:
    """The part of `wanted` in which a client may begin; from its start on, it has to be available for `needed`."""
    start = availability.next_available(profile, wanted.start)
    if start is None or start >= wanted.stop:
        return None
    until = availability.available_until(profile, start)
    if until is None:
        return Window(start, wanted.stop)
    last = until - needed
    return Window(start, min(wanted.stop, last)) if last > start else None

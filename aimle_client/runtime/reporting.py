"""When a subscriber hears of rounds: TS 29.549 ReportingRequirements, the `notifReqs` of TS 24.560 6.2.6.2.2."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from sbi.clock import Clock
from sbi.errors import InvalidParam, InvalidRequest
from schemas.reporting import NotificationMethod, TerminationMode

Wire = Mapping[str, Any]
Result = TypeVar("Result")

PERIODIC, ONE_TIME, ON_EVENT_DETECTION = NotificationMethod.values
TIME, NUMBER, THRESHOLD, USER = TerminationMode.values

THRESHOLDS = ("reportingThrs", "termThr")
"""Of network measurements, which an AIMLE client does not take."""

LONGEST = 365 * 86_400
"""Seconds of a period, or until a subscription ends, at most."""

_NEEDED = {TIME: "expirationTimer", NUMBER: "maxNumRep"}
"""What says when reporting ends, by how it is to end."""


@dataclass(frozen=True)
class ReportingRule:
    """When results are reported.

    Attributes:
        period: in seconds; at the end of each the latest result is reported, if it is new; None: each, as it comes.
        most: how many reports there are before the subscription ends; None: any number.
        lifetime: seconds after which it ends in any case; None: it does not.
    """

    period: int | None = None
    most: int | None = None
    lifetime: int | None = None

    @classmethod
    def of(cls, wire: Wire | None) -> Self:
        """The rule that ReportingRequirements state; without any: each result, for ever.

        `immRep` changes nothing: nothing has been learned when somebody subscribes.

        Raises:
            InvalidRequest: they make no sense, or cannot be fulfilled.
        """
        if wire is None:
            return cls()
        if wrong := [InvalidParam(f"/notifReqs/{name}", reason) for name, reason in _wrong(wire)]:
            raise InvalidRequest.naming(wrong)
        ending, mode = wire.get("repTerminMode"), wire["reportingMode"]
        number = wire.get("maxNumRep") if ending in (None, NUMBER) else None
        return cls(
            period=wire["reportingPeriod"] if mode == PERIODIC else None,
            most=1 if mode == ONE_TIME else number,
            lifetime=wire.get("expirationTimer") if ending in (None, TIME) else None,
        )


class Reporter(Generic[Result]):
    """Passes on the results of one subscription as a rule allows.

    Args:
        send: reports one.
        ended: called when the subscription has ended, by the rule.
    """

    def __init__(
        self, clock: Clock, send: Callable[[Result], Awaitable[None]], ended: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._send = send
        self._ended = ended
        self._rule = ReportingRule()
        self._reports = 0
        self._latest: Result | None = None
        self._periods: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None

    def follow(self, rule: ReportingRule) -> None:
        """From now on; the same rule as before goes on, but for its lifetime, which begins anew."""
        self._end = _replaced(self._end, None if rule.lifetime is None else self._expire(rule.lifetime))
        if self._periods is None or rule != self._rule:
            self._rule, self._reports = rule, 0
            self._periods = _replaced(self._periods, self._each_period(rule.period))

    async def report(self, result: Result) -> None:
        """Report this, now or at the end of the period."""
        self._latest = result
        if self._rule.period is None:
            await self._tell()

    def close(self) -> list[asyncio.Task[None]]:
        """Report nothing more; what is left to wait for."""
        tasks = [task for task in (self._periods, self._end) if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    async def _tell(self) -> None:
        if self._latest is None:
            return
        latest, self._latest = self._latest, None
        self._reports += 1
        await self._send(latest)
        if self._rule.most is not None and self._reports >= self._rule.most:
            self._ended()

    async def _each_period(self, period: int | None) -> None:
        """Without a period: what the one before has kept back."""
        began = self._clock.monotonic()
        while period is not None:
            await self._clock.sleep(period - (self._clock.monotonic() - began) % period)
            await self._tell()
        await self._tell()

    async def _expire(self, lifetime: int) -> None:
        await self._clock.sleep(lifetime)
        self._ended()


def _replaced(
    task: asyncio.Task[None] | None, work: Coroutine[Any, Any, None] | None
) -> asyncio.Task[None] | None:
    """This work, if any, from now on, and no more of that task's."""
    if task is not None:
        task.cancel()
    return None if work is None else asyncio.create_task(work)


def _wrong(wire: Wire) -> Iterator[tuple[str, str]]:
    """The attributes of ReportingRequirements that cannot be fulfilled, and why."""
    yield from ((name, "an AIMLE client measures no network") for name in THRESHOLDS if name in wire)
    mode, ending = wire["reportingMode"], wire.get("repTerminMode")
    if mode not in NotificationMethod.values:
        yield "reportingMode", f"is none of {', '.join(NotificationMethod.values)}"
    if ending not in (None, TIME, NUMBER, USER):
        yield "repTerminMode", f"is none of {TIME}, {NUMBER}, {USER}"
    if mode == PERIODIC and "reportingPeriod" not in wire:
        yield "reportingPeriod", f"is needed for {PERIODIC}"
    if (needed := _NEEDED.get(str(ending))) and needed not in wire:
        yield needed, f"is needed for {ending}"
    for name in ("reportingPeriod", "expirationTimer"):
        if not 1 <= wire.get(name, 1) <= LONGEST:
            yield name, f"is not between 1 and {LONGEST}"
    if wire.get("maxNumRep") == 0:
        yield "maxNumRep", "is not at least 1"

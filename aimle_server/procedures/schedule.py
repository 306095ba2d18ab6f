"""The operational schedule of a training (`opSchedule`, TS 23.482 table 8.3.3.1-1).

The wire has a plain string and no format for it. Two forms are taken: an ISO 8601 interval
(`2026-11-22T20:00:00Z/2026-11-23T06:00:00Z`) and the JSON text of a ScheduledCommunicationTime, a weekly window.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from aimle_server.procedures.availability import next_available
from sbi.body import load, parse_json
from sbi.clock import from_wire
from sbi.errors import InvalidRequest
from schemas.common import ScheduledCommunicationTime

_WEEKLY = ScheduledCommunicationTime()


@dataclass(frozen=True)
class OperationalSchedule:
    """When rounds may begin.

    Attributes:
        start, end: the interval; None: unbounded.
        weekly: a ScheduledCommunicationTime in wire shape; None: at any time.
    """

    start: datetime | None = None
    end: datetime | None = None
    weekly: Mapping[str, Any] | None = None

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> Self:
        """The schedule of a TrainRequest.

        Raises:
            InvalidRequest: `opSchedule` is in neither form.
        """
        text = request.get("opSchedule")
        if text is None:
            return cls()
        if text.lstrip().startswith("{"):
            return cls(weekly=load(_WEEKLY, parse_json(text, "/opSchedule"), "/opSchedule"))
        try:
            start, end = map(from_wire, text.split("/"))
        except (ValueError, OverflowError) as error:  # the latter: before the year 1, or after 9999
            reason = "neither an interval of two date-times nor a ScheduledCommunicationTime in JSON"
            raise InvalidRequest.of("/opSchedule", reason) from error
        if end <= start:
            raise InvalidRequest.of("/opSchedule", "ends before it starts")
        return cls(start, end)

    def opens(self, now: datetime) -> datetime | None:
        """The first moment from `now` on at which a round may begin; None: there is none any more."""
        if self.end and now >= self.end:
            return None
        if self.weekly:
            return next_available({"availTimeSchedCfgs": [self.weekly]}, now)
        return max(now, self.start) if self.start else now

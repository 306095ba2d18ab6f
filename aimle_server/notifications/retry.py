"""When a notification that failed is tried again, and when it is given up."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_GONE = (404, 410)
_BUSY = (429, 503)


@dataclass(frozen=True)
class Failure:
    """An attempt that did not succeed.

    Attributes:
        status: the answer's HTTP status, None if there was none.
        retry_after: the answer's Retry-After header.
        refused: the target is one that we do not call.
    """

    status: int | None = None
    retry_after: str | None = None
    refused: bool = False

    @property
    def lasting(self) -> bool:
        """Trying again rarely helps: the target says that it is gone, or we do not call it."""
        return self.refused or self.status in _GONE


@dataclass(frozen=True)
class RetryPolicy:
    """How hard a notification is tried.

    A failure is tried again until the message is too old. That includes statuses which blame the request (400,
    401, 403, ...): what answers may be a gateway that is being configured, and an attempt every few minutes
    costs little. Only where the target is gone (404, 410) or refused, a few attempts are enough.

    Attributes:
        first: pause after the first failure, in seconds.
        factor: by which each further pause is longer than the one before.
        longest: longest pause, in seconds; a target's Retry-After is honoured up to this as well.
        jitter: share of each pause that is left to chance, 0..1, so that streams which failed together do not
            come back together.
        give_up_after: age in seconds from which a message that fails is given up.
        lasting_attempts: attempts after which a message is given up whose target is gone or refused.
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    jitter: float = 0.5
    give_up_after: float = 24 * 3600.0
    lasting_attempts: int = 3

    def next_delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after the failed attempt number `attempt` (from 1)."""
        exponent = min(attempt - 1, 64)  # far beyond any `longest`, and still a float
        pause = min(self.first * self.factor**exponent, self.longest)
        return pause * (1 - self.jitter * rng.random())

    def after(
        self, failure: Failure, attempt: int, age: float, now: datetime, rng: random.Random
    ) -> float | None:
        """Seconds until the next attempt, None to give up.

        Args:
            failure: how attempt number `attempt` (from 1) ended.
            attempt: attempts so far.
            age: of the message, in seconds.
            now: for a Retry-After that is a date.
            rng: of the jitter.
        """
        if age >= self.give_up_after or (failure.lasting and attempt >= self.lasting_attempts):
            return None
        asked = 0.0
        if failure.status in _BUSY and failure.retry_after is not None:
            asked = min(seconds_asked(failure.retry_after, now), self.longest)
        return max(asked, self.next_delay(attempt, rng))


def seconds_asked(retry_after: str, now: datetime) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110 10.2.3: a number or a date); 0 if it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)

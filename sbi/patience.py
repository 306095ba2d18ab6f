"""How often and how patiently an interrupted transfer is taken up again, and the errors when it is given up."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import hdrs

from sbi.clock import Clock

COME_AGAIN = frozenset({408, 429, 502, 503, 504})
"""Answers after which the same request may well succeed."""


class TransferError(Exception):
    """A model file could not be moved; the message is fit for anybody and holds no address."""


class TransferRefused(TransferError):
    """The other side answered with `status`, and would again; `body` is what it said, cut after 64 KiB."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"the other side answered {status}")
        self.status = status
        self.body = body


class TransferTooLarge(TransferError):
    """The file has more bytes than are taken."""


class CorruptTransfer(TransferError):
    """What came has another digest than announced, and was removed."""


class Interrupted(Exception):
    """One attempt failed and another one makes sense, in `retry_after` seconds at the earliest."""

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after

    @classmethod
    def by(cls, status: int, headers: Mapping[str, str]) -> "Interrupted":
        """The interruption that an answer with a status of `COME_AGAIN` is."""
        seconds = headers.get(hdrs.RETRY_AFTER, "")
        return cls(f"the other side answered {status}", int(seconds[:9]) if seconds.isdecimal() else 0)


@dataclass(frozen=True)
class Patience:
    """When to go on and when to give up.

    Attributes:
        attempts: failures in a row, without progress in between, after which it is given up.
        first: seconds before the second attempt; doubled for each further one.
        longest: most seconds between two attempts; whoever asks for more (Retry-After) is given up.
        stall: seconds without a byte after which a connection counts as broken.
        jitter: gives a number in [0, 1) that spreads transfers which failed together.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0
    stall: float = 60.0
    jitter: Callable[[], float] = random.SystemRandom().random

    def delay(self, failures: int, retry_after: float) -> float | None:
        """Seconds to wait after so many failures (from 1); None: give up."""
        if failures >= self.attempts or retry_after > self.longest:
            return None
        backoff = min(self.longest, self.first * 2.0 ** (failures - 1))
        return max(retry_after, backoff * (0.5 + self.jitter() / 2))


PATIENCE = Patience()


class Retries:
    """Counts one transfer's failures and waits between its attempts."""

    def __init__(self, patience: Patience, clock: Clock | None) -> None:
        self._patience = patience
        self._clock = clock or Clock()
        self._failures = 0

    async def wait(self, interrupted: Interrupted, *, progress: bool = False) -> None:
        """Return when it is time for the next attempt; `progress`: the last one got further than those before.

        Raises:
            TransferError: there is no next one.
        """
        self._failures = 1 if progress else self._failures + 1
        delay = self._patience.delay(self._failures, interrupted.retry_after)
        if delay is None:
            raise TransferError(f"given up: {interrupted}") from interrupted
        await self._clock.sleep(delay)

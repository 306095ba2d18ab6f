"""One training, as the VAL server that asked for it sees it (TS 23.482 8.3, 8.20)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

from aimle_client.errors import UnexpectedAnswer
from aimle_client.events import COMPLETED, TrainingEvent
from aimle_client.listener import Mailbox
from aimle_client.val.values import TrainingStatus
from sbi.clock import Clock

ReadStatus = Callable[[str], Awaitable[TrainingStatus]]
Stop = Callable[[str, Collection[str]], Awaitable[Any]]
"""Stops a training, by its identifier, at these AIMLE clients."""

_ANYBODY = "*"
"""Named in a STOP while nobody takes part: its list must not be empty, and whoever is named then ends it."""

_AGAIN = 0.2
_ATTEMPTS = 25
"""How often a training in which nobody takes part is stopped before that is given up; `_AGAIN` in seconds."""


class Training:
    """A training at the AIMLE server; `ValServer.train` begins one, `ValServer.training` finds one again.

    Attributes:
        id: its trainingId.
    """

    def __init__(
        self,
        training_id: str,
        read_status: ReadStatus,
        stop: Stop,
        clock: Clock,
        *,
        mailbox: Mailbox[TrainingEvent] | None = None,
    ) -> None:
        self.id = training_id
        self._read_status = read_status
        self._stop = stop
        self._clock = clock
        self._mailbox = mailbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"

    async def events(self, *, check_every: float = 30.0) -> AsyncIterator[TrainingEvent]:
        """What happens, until the training has ended; to be iterated over once, in one task.

        When nothing was heard for `check_every` seconds the status is looked at, so that the end is noticed even
        if the AIMLE server does not reach the listener.

        Raises:
            RuntimeError: there is no listener for this training: use `wait`.
            AimleClientError: the status could not be read; the iteration may be begun again.
        """
        mailbox = self._mailbox
        if mailbox is None:
            raise RuntimeError("nobody listens for this training: give ValServer `listen`, or use wait()")
        while not (mailbox.ended and mailbox.empty):
            try:
                async with asyncio.timeout(check_every):
                    event = await mailbox.get()
            except TimeoutError:
                status = await self.status()
                if not status.terminal or not mailbox.empty:
                    continue
                mailbox.ended = True
                event = _last_event(status)
            yield event

    async def status(self) -> TrainingStatus:
        """How it stands (our extension).

        Raises:
            NotFound: the AIMLE server does not know it, or not as this VAL server's.
        """
        return await self._read_status(self.id)

    async def wait(self, poll: float = 1.0) -> TrainingStatus:
        """The status once it has ended, asked for every `poll` seconds; needs no listener.

        Raises:
            NotFound: as for `status`.
            ServerUnavailable: the server was away for longer than the retry policy bears.
        """
        while not (status := await self.status()).terminal:
            await self._clock.sleep(poll)
        return status

    async def cancel(self) -> TrainingStatus:
        """Have it stopped at every client, which ends it as CANCELLED (TS 23.482 8.20).

        The model of the last committed round is stored first, so it may end shortly after this returns: `wait`.
        A training that has ended stays as it is.

        Raises:
            NotFound: as for `status`.
            UnexpectedAnswer: it names nobody who takes part, and goes on although it was stopped.
        """
        named: set[str] = set()
        for attempt in range(_ATTEMPTS):
            status = await self.status()
            listed = {participant.client_id for participant in status.participants}
            if status.terminal or (listed and listed <= named):
                return status
            if attempt and not listed:  # it ends at once then, so a little patience shows whether it has
                await self._clock.sleep(_AGAIN)
            # Who takes part can change between the two requests; then the next round of the loop sees it.
            named |= listed or {_ANYBODY}
            await self._stop(self.id, sorted(named))
        raise UnexpectedAnswer("the training was stopped wherever it takes place, and goes on")


def _last_event(status: TrainingStatus) -> TrainingEvent:
    """The end of a training whose notification did not come; which round was the best is not known."""
    return TrainingEvent(
        status.training_id,
        percentage=100 if status.state == COMPLETED else None,
        state=status.state,
        reason=status.reason,
        output_model_id=status.output_model_id,
    )

"""How busy the clients of this process's trainings are: their computational load, as measured (TS 23.482 8.5.4).

A load is in per cent: the larger of the share of the last five minutes that a client spent in rounds, from being asked
to its report, error or timeout; and what it measured itself and sent with its last report, for ten minutes. Rounds of
several trainings at the same time count once. No part of a round waits for any of this.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

WINDOW = 300.0
"""Seconds of which the share is taken."""

OWN = 600.0
"""Seconds for which a client's own figure counts."""

KNOWN = 900.0
"""Seconds after its last round in which a client is known still, so that its load is seen to fall to nothing."""


@dataclass
class _Client:
    """What is known of one.

    Attributes:
        trainings: of the rounds in which it is now.
        since: when it came into the first of these, or left the last one.
        spans: (from, to) of the times in rounds before, of the last `WINDOW` seconds.
        own: its own figure, in per cent, and when it came.
    """

    trainings: set[str] = field(default_factory=set)
    since: float = 0.0
    spans: deque[tuple[float, float]] = field(default_factory=deque)
    own: tuple[int, float] = (0, -OWN)


class LoadMeter:
    """Measures the clients of one process.

    Args:
        monotonic: seconds since some moment.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._clients: dict[str, _Client] = {}
        self._running: dict[str, set[str]] = defaultdict(set)

    def asked(self, training_id: str, client_ids: Iterable[str]) -> None:
        """A round of these clients has begun."""
        now = self._monotonic()
        for client_id in client_ids:
            client = self._clients.setdefault(client_id, _Client())
            if not client.trainings:
                client.since = now
            client.trainings.add(training_id)
            self._running[training_id].add(client_id)

    def done(self, training_id: str, client_ids: Iterable[str]) -> None:
        """These are not in the training's round any more, whichever way; said again, it changes nothing."""
        now, running = self._monotonic(), self._running[training_id]
        for client_id in running.intersection(client_ids):
            running.discard(client_id)
            self._leave(self._clients[client_id], training_id, now)
        if not running:
            del self._running[training_id]

    def over(self, training_id: str) -> None:
        """The training's round is over, or is not this process's any more."""
        self.done(training_id, tuple(self._running.get(training_id, ())))

    def reported(self, client_id: str, load: int) -> None:
        """What a client says of itself, in per cent."""
        if client := self._clients.get(client_id):
            client.own = load, self._monotonic()

    def loads(self) -> dict[str, int]:
        """The loads of all clients that are known, in per cent."""
        now = self._monotonic()
        for client_id in [name for name, client in self._clients.items() if _is_forgotten(client, now)]:
            del self._clients[client_id]
        return {client_id: _load(client, now) for client_id, client in self._clients.items()}

    def _leave(self, client: _Client, training_id: str, now: float) -> None:
        client.trainings.discard(training_id)
        if not client.trainings:
            client.spans.append((client.since, now))
            client.since = now
            _forget_before(client, now)


def _load(client: _Client, now: float) -> int:
    figure, at = client.own
    busy = sum(end - max(start, now - WINDOW) for start, end in client.spans if end > now - WINDOW)
    if client.trainings:
        busy += now - max(client.since, now - WINDOW)
    share = round(100 * min(busy / WINDOW, 1.0))
    return max(share, figure) if now - at < OWN else share


def _forget_before(client: _Client, now: float) -> None:
    while client.spans and client.spans[0][1] <= now - WINDOW:
        client.spans.popleft()


def _is_forgotten(client: _Client, now: float) -> bool:
    return not client.trainings and now - client.since > KNOWN

"""`crashing_server.py before|after POINT N ARGS...` is `aimle-server ARGS...`, until it kills itself.

It sends itself SIGKILL immediately before or after the N-th time that it does what POINT names.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aimle_server.cli import main
from ml_repository.artifacts import Artifacts
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.outbox import Outbox
from ml_repository.subscriptions import Subscriptions
from ml_repository.task_transfers import TaskTransfers
from ml_repository.trainings import Trainings


class Point(NamedTuple):
    """A method of a store, and for which first arguments it is the point."""

    store: type
    method: str
    concerns: Callable[[Any], bool] = lambda _: True


def _enters(state: str, *, finishing: bool = False) -> Point:
    """The write by which a training enters the state; AGGREGATING has two meanings."""
    before: tuple[Any, bool] | None = None

    def enters(document: Any) -> bool:
        nonlocal before
        earlier, before = before, (document["state"], document["finish"] is not None)
        return before != earlier and before[0] == state and before[1] >= finishing

    return Point(Trainings, "save", enters)


def _artifact(kind: str, method: str) -> Point:
    return Point(Artifacts, method, lambda name: name.startswith("training:") and f":{kind}:" in name)


def _period_over(subscription: Any) -> bool:
    return bool(subscription.reporting["next"] <= datetime.now(UTC))


POINTS = {
    "REQUESTED": Point(Trainings, "add"),
    "SELECTING": _enters("SELECTING"),
    "ROUND_RUNNING": _enters("ROUND_RUNNING"),
    "AGGREGATING": _enters("AGGREGATING"),
    "storing": _enters("AGGREGATING", finishing=True),
    "COMPLETED": _enters("COMPLETED"),
    "FAILED": _enters("FAILED"),
    "CANCELLED": _enters("CANCELLED"),
    "written": Point(Artifacts, "_write"),
    "checkpoint": _artifact("model", "put_chunks"),
    "memory": _artifact("memory", "put"),
    "result": Point(ModelArtifacts, "complete"),
    "forgetting": Point(Outbox, "delivered"),
    "closing": Point(Trainings, "close"),
    "report": Point(Subscriptions, "save", _period_over),
    "agreed": Point(TaskTransfers, "advance", lambda transfer: transfer.state == "REQUESTED"),
    "state": _artifact("state", "put"),
    "moved": Point(Trainings, "save", lambda document: len(document["moves"]) > 0),
    "handed over": Point(TaskTransfers, "advance", lambda transfer: transfer.state == "AGREED"),
}


def crash(when: str, point: Point, turn: int) -> None:
    """Have this process end in that moment."""
    original = getattr(point.store, point.method)
    turns = 0

    async def last(store: Any, subject: Any, *args: Any, **options: Any) -> Any:
        nonlocal turns
        concerned = point.concerns(subject)
        turns += concerned
        now = concerned and turns == turn
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await original(store, subject, *args, **options)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(point.store, point.method, last)


if __name__ == "__main__":
    when, name, turn, *arguments = sys.argv[1:]
    crash(when, POINTS[name], int(turn))
    sys.exit(main(arguments))

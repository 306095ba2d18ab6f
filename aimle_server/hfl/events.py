"""What can happen to a training (events) and what it then wants done (effects); TS 23.482 8.12.2.1."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aimle_server.hfl.objective import StopConditions
from aimle_server.hfl.training import Finish, Move, Participant


@dataclass(frozen=True)
class Resumed:
    """A driver took the training over: at its beginning, or from a server that is gone."""


@dataclass(frozen=True)
class Selected:
    """Who takes part in the round to come."""

    participants: tuple[Participant, ...]


@dataclass(frozen=True)
class SelectionFailed:
    """Not enough clients fulfil the request or agree to take part."""

    reason: str


@dataclass(frozen=True)
class Subscribed:
    """A client granted the HFL subscription; `uri` is where it stands."""

    client_id: str
    uri: str


@dataclass(frozen=True)
class NoteDue:
    """Some time has passed since a client granted a subscription: it is time to write that."""


@dataclass(frozen=True)
class Reported:
    """A client's HFL training notification, its update (if any) already checked and on disk.

    Attributes:
        samples: number of samples behind the update; 0 without one.
        eval_samples, metrics: its evaluation of the model it received.
    """

    client_id: str
    round: int
    samples: int
    eval_samples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Errored:
    """A client could not be asked, refused, or reported an error.

    Attributes:
        attempt: says when the round was asked.
        reason: in words, for the VAL server.
    """

    client_id: str
    round: int
    attempt: int = 1
    reason: str = ""


@dataclass(frozen=True)
class Offended:
    """A client sent an update that had to be refused."""

    client_id: str
    reason: str


@dataclass(frozen=True)
class Deadline:
    """The time of a round is over."""

    round: int


@dataclass(frozen=True)
class Aggregated:
    """The round's model is stored as a checkpoint."""

    round: int


@dataclass(frozen=True)
class Stored:
    """The result is in the ML repository."""


@dataclass(frozen=True)
class Broken:
    """The training cannot go on."""

    reason: str


@dataclass(frozen=True)
class Cancelled:
    """The VAL server stopped the operation (TS 23.482 8.20)."""

    reason: str


@dataclass(frozen=True)
class Left:
    """The operation was stopped at some of the clients only."""

    client_ids: frozenset[str]


@dataclass(frozen=True)
class Continued:
    """The operation was started (again) at some clients; `stop`, if given, is from now on when it stops."""

    client_ids: frozenset[str]
    stop: StopConditions | None


@dataclass(frozen=True)
class Deposited:
    """A client's intermediate state is stored, after so many iterations (TS 23.482 8.6)."""

    client_id: str
    round: int
    iterations: int


@dataclass(frozen=True)
class HandedOver:
    """A client's task is another one's from now on; `move` says whose."""

    move: Move
    target: Participant


@dataclass(frozen=True)
class Stranded:
    """A client will not finish its task: it is gone, or its hours are over."""

    client_id: str
    round: int
    reason: str


@dataclass(frozen=True)
class Unmoved:
    """Nobody was found who goes on with a client's task."""

    client_id: str
    round: int
    reason: str


Event = (
    Resumed
    | Selected
    | SelectionFailed
    | Subscribed
    | NoteDue
    | Reported
    | Errored
    | Offended
    | Deadline
    | Aggregated
    | Stored
    | Broken
    | Cancelled
    | Left
    | Continued
    | Deposited
    | HandedOver
    | Stranded
    | Unmoved
)


@dataclass(frozen=True)
class Select:
    """Choose the participants of the round to come; leads to Selected or SelectionFailed."""


@dataclass(frozen=True)
class AskRound:
    """Hand each participant the round's model; leads to Subscribed or Errored.

    With `beside` they are asked beside the others, who go on.
    """

    participants: tuple[Participant, ...]
    beside: bool = False


@dataclass(frozen=True)
class Relocate:
    """Find another owner for a client's task; leads to HandedOver or Unmoved."""

    client_id: str
    reason: str


@dataclass(frozen=True)
class ArmDeadline:
    """Say Deadline at that moment."""

    round: int
    at: datetime


@dataclass(frozen=True)
class Aggregate:
    """Make the round's model from the updates; leads to Aggregated or Broken."""

    round: int


@dataclass(frozen=True)
class StoreResult:
    """Put the model of this round into the ML repository; leads to Stored or Broken."""

    finish: Finish


@dataclass(frozen=True)
class Withdraw:
    """Delete the subscriptions at these clients and stop the operation there."""

    participants: tuple[Participant, ...]


@dataclass(frozen=True)
class CleanUp:
    """Remove what only the running training needed: checkpoints, updates, an output model never made."""


@dataclass(frozen=True)
class Notify:
    """A notification for the VAL server; written with the state, delivered later.

    Attributes:
        body: MlModelTrainNotif without its `trainingID`.
        sequence: its place among the training's notifications, from 1.
    """

    body: Mapping[str, Any]
    sequence: int = 0


Effect = Select | AskRound | Relocate | ArmDeadline | Aggregate | StoreResult | Withdraw | CleanUp | Notify

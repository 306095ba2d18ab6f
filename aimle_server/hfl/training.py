"""A training as a value: what the engine knows of one ML model training (TS 23.482 8.3, 8.12).

Everything here is immutable and free of I/O; `machine.advance` makes the next value from an event. The
document in the database is `to_document`, so that any server can go on from the last committed round.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from aimle_server.hfl.objective import Objective, StopConditions


class State(StrEnum):
    """Where a training stands."""

    REQUESTED = "REQUESTED"
    SELECTING = "SELECTING"
    ROUND_RUNNING = "ROUND_RUNNING"
    AGGREGATING = "AGGREGATING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class ParticipantState(StrEnum):
    """What a participant did with the running round."""

    INVITED = "INVITED"
    TRAINING = "TRAINING"
    REPORTED = "REPORTED"
    ERRORED = "ERRORED"
    TIMED_OUT = "TIMED_OUT"


SETTLED = frozenset({ParticipantState.REPORTED, ParticipantState.ERRORED, ParticipantState.TIMED_OUT})


@dataclass(frozen=True)
class Participant:
    """One AIMLE client in one training.

    Attributes:
        client_id: its AIMLE client id.
        uri: apiRoot of its aimlec APIs.
        key: the unguessable part of the addresses minted for it in this training.
        dataset: the dataset it trains on, `dataId` of its subscription.
        state: what it did with the running round.
        subscription: URI of the HFL subscription at the client, once made.
        samples: number of samples its update of this round was fitted on; 0 without an update.
        eval_samples: number of samples it evaluated the received model on.
        metrics: its evaluation of the model that the round began with, name to value.
        misses: rounds in a row that it did not report.
        reason: why it did not report the running round, in words.
        offences: updates of this training that had to be refused.
        seat: the key of the first owner of its task in the running round, by which the intermediate state is stored;
            empty: its own.
        deposited: iterations behind the intermediate state that is stored; None: there is none.
        moves: how often the task changed hands in the running round.
        leaving: why another owner is being looked for; empty: none is.
        broken: whether it does not go on itself if there is no other owner.
    """

    client_id: str
    uri: str
    key: str
    dataset: str
    state: ParticipantState = ParticipantState.INVITED
    subscription: str | None = None
    samples: int = 0
    eval_samples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    misses: int = 0
    reason: str = ""
    offences: int = 0
    seat: str = ""
    deposited: int | None = None
    moves: int = 0
    leaving: str = ""
    broken: bool = False

    @property
    def own_seat(self) -> str:
        """The seat of its task."""
        return self.seat or self.key

    def asked(self, *, again: bool = False) -> Self:
        """The same participant as a round starts, or is asked `again` after its attempt before came to nothing."""
        task: dict[str, Any] = {} if again else {"seat": "", "deposited": None, "moves": 0}
        return replace(
            self,
            state=ParticipantState.TRAINING,
            samples=0,
            eval_samples=0,
            metrics={},
            reason="",
            leaving="",
            broken=False,
            **task,
        )

    def missed(self, state: ParticipantState, reason: str) -> Self:
        """The same participant after it failed to report, in this way."""
        return replace(self, state=state, misses=self.misses + 1, reason=reason)


@dataclass(frozen=True)
class Move:
    """A task that went from one client to another (TS 23.482 8.6).

    Attributes:
        transfer_id: by which transfer.
        round: of which round it was a part.
        source, target: client ids.
        mode: DIRECT or SERVER_CONTROLLED.
        iterations: done by then; the target did, or is to do, the rest.
        at: when the owner changed.
        reason: in words.
    """

    transfer_id: str
    round: int
    source: str
    target: str
    mode: str
    iterations: int
    at: datetime
    reason: str = ""


@dataclass(frozen=True)
class RoundRecord:
    """One committed round, for the training's history.

    Attributes:
        round: its number, from 1.
        participants: ids of the clients whose updates were aggregated.
        dropped: ids of the clients that were asked and sent no update.
        samples: number of samples behind the round's model.
        started_at, committed_at: in UTC.
        metrics: evaluation of the model this round made, by the next round's participants on their own data.
    """

    round: int
    participants: tuple[str, ...]
    dropped: tuple[str, ...]
    samples: int
    started_at: datetime
    committed_at: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class QuorumRule:
    """When a round counts.

    Attributes:
        wanted: number of participants wanted; None: all that are named.
        min_reports: fraction of the participants asked that must send an update, in (0, 1].
        max_misses: a participant that missed this many rounds in a row is left out for a while.
        max_offences: a client with so many refused updates is excluded from the training.
        attempts: times that a round may have too few updates; the last of them fails the training.
        round_timeout: seconds from the start of a round until who has not reported is left out.
    """

    wanted: int | None = None
    min_reports: float = 0.5
    max_misses: int = 2
    max_offences: int = 3
    attempts: int = 2
    round_timeout: float = 600.0

    def needed(self, asked: int) -> int:
        """Number of updates that a round with this many participants needs: at least one."""
        return max(1, -int(-self.min_reports * asked // 1))


@dataclass(frozen=True)
class Finish:
    """How a training is about to end, once its model is stored.

    Attributes:
        state: COMPLETED or CANCELLED.
        round: the round whose model is the result; 0 is the model the training began with.
        reason: for the VAL server, in words.
        error: the `trainErr` of the last notification, if any.
    """

    state: State
    round: int
    reason: str
    error: str | None = None


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        training_id, owner: its identifier, and the subject whose request it is.
        request: the TrainRequest in wire shape; `profile`: the training profile in force.
        service_id: the VAL service it is for.
        members: clients named by the request or by its client set; they come before those by criteria.
        model_id: the model it begins with; `output_model_id`: the model it will store.
        model_uri: where the first model's bytes are, if not in the repository.
        objective, stop, quorum: the rules.
        state, version: where it stands; `version` counts the writes.
        round: number of the running (or next) round, from 1; `committed` is the last one aggregated.
        attempt: how often the running round was asked, also because a server died; addresses differ by it.
        missed: how often the running round had too few updates.
        round_started, deadline: when the running round began, and when it closes.
        stopped: clients at which the operation was stopped; they are not asked again.
        participants: by client id.
        history: committed rounds, oldest first.
        moves: tasks that changed hands, oldest first.
        seats: those for which an intermediate state has been stored; `deposits`: how often one was.
        initial_metrics: evaluation of the model the training began with.
        finish: set while AGGREGATING means storing the result.
        reason: why it ended.
        notified: number of notifications written so far; the next one's place in their order.
        percentage: last completion percentage told, never falls.
    """

    training_id: str
    owner: str
    request: Mapping[str, Any]
    profile: Mapping[str, Any]
    service_id: str
    model_id: str
    output_model_id: str
    objective: Objective
    model_uri: str | None = None
    members: tuple[str, ...] = ()
    quorum: QuorumRule = field(default_factory=QuorumRule)
    stop: StopConditions = field(default_factory=StopConditions)
    state: State = State.REQUESTED
    version: int = 0
    round: int = 1
    committed: int = 0
    attempt: int = 1
    missed: int = 0
    round_started: datetime | None = None
    deadline: datetime | None = None
    participants: Mapping[str, Participant] = field(default_factory=dict)
    stopped: tuple[str, ...] = ()
    history: tuple[RoundRecord, ...] = ()
    moves: tuple[Move, ...] = ()
    seats: tuple[str, ...] = ()
    deposits: int = 0
    initial_metrics: Mapping[str, float] = field(default_factory=dict)
    finish: Finish | None = None
    reason: str | None = None
    notified: int = 0
    percentage: int = 0

    @property
    def terminal(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in TERMINAL

    @property
    def evaluating_only(self) -> bool:
        """Whether the running round only evaluates: the last aggregated model has no figures yet."""
        return self.round > self.objective.max_rounds

    def metrics_of(self, round_number: int) -> Mapping[str, float]:
        """Evaluation of a round's model; round 0 is the model the training began with."""
        if round_number == 0:
            return self.initial_metrics
        return next((record.metrics for record in self.history if record.round == round_number), {})

    def with_participant(self, participant: Participant) -> Self:
        """The training with this participant put in or replaced."""
        return replace(self, participants={**self.participants, participant.client_id: participant})

    def to_document(self) -> dict[str, Any]:
        """As stored: plain data, `_id` is the training's identifier.

        Nothing is copied that cannot change: there may be thousands of participants, and as many names in each record.
        """
        document = {
            **vars(self),
            "_id": self.training_id,
            "_keys": [participant.key for participant in self.participants.values()],
            "objective": vars(self.objective),
            "quorum": vars(self.quorum),
            "stop": vars(self.stop),
            "participants": [vars(participant) for participant in self.participants.values()],
            "history": [vars(record) for record in self.history],
            "moves": [vars(move) for move in self.moves],
            "finish": self.finish and vars(self.finish),
        }
        del document["training_id"]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The value that `to_document` wrote."""
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        finish = known["finish"]
        return cls(
            **known
            | {
                "training_id": document["_id"],
                "state": State(known["state"]),
                "objective": Objective(**known["objective"]),
                "stop": StopConditions(**known["stop"]),
                "quorum": QuorumRule(**known["quorum"]),
                "participants": {
                    values["client_id"]: Participant(**values | {"state": ParticipantState(values["state"])})
                    for values in known["participants"]
                },
                "members": tuple(known["members"]),
                "stopped": tuple(known["stopped"]),
                "history": tuple(
                    RoundRecord(
                        **record | {name: tuple(record[name]) for name in ("participants", "dropped")}
                    )
                    for record in known["history"]
                ),
                "moves": tuple(Move(**move) for move in known.get("moves", ())),
                "seats": tuple(known.get("seats", ())),
                "finish": finish and Finish(**finish | {"state": State(finish["state"])}),
            }
        )

"""The state machine of a horizontal FL training: a transition table and one pure function.

    REQUESTED -> SELECTING -> ROUND_RUNNING -> AGGREGATING -> SELECTING (next round)
                                                           -> COMPLETED | CANCELLED (result stored)
    any of them -> FAILED | CANCELLED

`advance(training, event, now)` returns the next value and the effects to run once it is committed. Reports
that are late, repeated or from a stranger are normal and change nothing. (TS 23.482 8.12.2.1 steps 3-10.)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aimle_server.hfl import messages, moving
from aimle_server.hfl.events import (
    Aggregate,
    Aggregated,
    ArmDeadline,
    AskRound,
    Broken,
    Cancelled,
    CleanUp,
    Continued,
    Deadline,
    Deposited,
    Effect,
    Errored,
    Event,
    HandedOver,
    Left,
    Notify,
    Offended,
    Reported,
    Resumed,
    Select,
    Selected,
    SelectionFailed,
    Stored,
    StoreResult,
    Stranded,
    Subscribed,
    Unmoved,
    Withdraw,
)
from aimle_server.hfl.training import (
    SETTLED,
    Finish,
    Participant,
    ParticipantState,
    RoundRecord,
    State,
    Training,
)
from aimle_server.hfl.verdicts import pooled_metrics, verdict

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.REQUESTED: frozenset({State.SELECTING, State.FAILED, State.CANCELLED}),
    State.SELECTING: frozenset({State.ROUND_RUNNING, State.AGGREGATING, State.FAILED, State.CANCELLED}),
    State.ROUND_RUNNING: frozenset({State.SELECTING, State.AGGREGATING, State.FAILED, State.CANCELLED}),
    State.AGGREGATING: frozenset({State.SELECTING, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""Where a training may go from each state; the conditional write in the database is the second guard."""


REASONS_TOLD = 3
"""Clients whose reasons stand in the reason of a training that failed by them."""


class ForbiddenTransitionError(Exception):
    """A programming error: `advance` tried a step that the table does not have."""


@dataclass(frozen=True)
class Step:
    """The outcome of `advance`."""

    training: Training
    effects: tuple[Effect, ...] = ()


def advance(training: Training, event: Event, now: datetime) -> Step:
    """The training after this event, and what to do once that is committed.

    An event that does not concern the training's present state returns the training itself, unchanged.

    Raises:
        ForbiddenTransitionError: the step is not in `TRANSITIONS`.
    """
    step = _advance(training, event, now)
    before, after = training.state, step.training.state
    if before is not after and after not in TRANSITIONS[before]:
        raise ForbiddenTransitionError(f"{before} -> {after} by {type(event).__name__}")
    return _numbered(step)


def _numbered(step: Step) -> Step:
    """Give each notification its place in the training's order; without a `notifUri` there are none."""
    training, effects = step.training, []
    for effect in step.effects:
        if isinstance(effect, Notify):
            if "notifUri" not in training.request:
                continue
            training = replace(training, notified=training.notified + 1)
            effect = replace(effect, sequence=training.notified)
        effects.append(effect)
    return Step(training, tuple(effects))


def _advance(training: Training, event: Event, now: datetime) -> Step:
    if training.terminal:
        return Step(training, _leaving(training) if isinstance(event, Resumed) else ())
    match event:
        case Resumed():
            return _resume(training)
        case Selected(participants) if training.state is State.SELECTING:
            return _start_round(training, participants, now)
        case SelectionFailed(reason) if training.state is State.SELECTING:
            return _unattended(training, reason, now)
        case Subscribed(client_id, uri) if client_id in training.participants:
            return Step(
                training.with_participant(replace(training.participants[client_id], subscription=uri))
            )
        case Deposited() | HandedOver() | Stranded() if training.state is State.ROUND_RUNNING:
            return Step(*moving.advance(training, event))
        case Errored(client_id, number, attempt, reason) if attempt == training.attempt and moving.may_move(
            training, client_id, number
        ):
            return Step(*moving.leave(training, client_id, reason, broken=True))
        case Unmoved(client_id, number, reason) if number == training.round:
            return _stay(training, client_id, reason, now)
        case Reported() | Errored():
            return _settle(training, _record(training, event), now)
        case Offended(client_id, reason) if client_id in training.participants and training.finish is None:
            return _offend(training, client_id, reason, now)
        case Deadline(number) if training.state is State.ROUND_RUNNING and number == training.round:
            return _close(training, now)
        case Aggregated(number) if _aggregating(training) and number == training.round:
            return _commit(training, now)
        case Stored() if training.finish:
            return _end(training, training.finish)
        case Broken(reason):
            return _fail(training, reason)
        case Cancelled(reason) if training.finish is None:
            return _cancel(training, reason)
        case Left(client_ids) if training.finish is None:
            return _leave(training, client_ids, now)
        case Continued(client_ids, stop):
            stopped = tuple(client_id for client_id in training.stopped if client_id not in client_ids)
            return Step(replace(training, stopped=stopped, stop=stop or training.stop))
    return Step(training)


def _aggregating(training: Training) -> bool:
    return training.state is State.AGGREGATING and training.finish is None


def _resume(training: Training) -> Step:
    """Go on from what is committed: a round that was running is asked again as a whole."""
    if training.finish:
        return Step(training, (StoreResult(training.finish),))
    asked = training.attempt + (training.state in (State.ROUND_RUNNING, State.AGGREGATING))
    return Step(replace(training, state=State.SELECTING, attempt=asked, deadline=None), (Select(),))


def _unattended(training: Training, reason: str, now: datetime) -> Step:
    """Nobody is left: without updates the training fails, but its last model does not need its evaluation."""
    if training.evaluating_only and (finish := verdict(training, now)):
        return _finish(training, finish)
    return _fail(training, reason)


def _start_round(training: Training, participants: tuple[Participant, ...], now: datetime) -> Step:
    if any(participant.client_id in training.stopped for participant in participants):
        return Step(training, (Select(),))  # the operation was stopped there while they were chosen
    again = training.attempt > 1
    chosen = {each.client_id: _as_known(training, each).asked(again=again) for each in participants}
    gone = tuple(old for client_id, old in training.participants.items() if client_id not in chosen)
    deadline = now + timedelta(seconds=training.quorum.round_timeout)
    started = replace(
        training, state=State.ROUND_RUNNING, participants=chosen, round_started=now, deadline=deadline
    )
    effects: list[Effect] = [AskRound(tuple(chosen.values())), ArmDeadline(training.round, deadline)]
    if gone:
        effects.append(Withdraw(gone))
    if training.request.get("memUpdNotif") and (changes := messages.member_changes(training, started)):
        effects.append(Notify(changes))
    return Step(started, tuple(effects))


def _as_known(training: Training, participant: Participant) -> Participant:
    """With the subscription that was granted while the participants were chosen."""
    known = training.participants.get(participant.client_id)
    if known is None or (known.key, known.uri) != (participant.key, participant.uri):
        return participant
    return replace(participant, subscription=known.subscription, deposited=known.deposited)


def _record(training: Training, event: Reported | Errored) -> Training:
    """Put a report into the running round; late, repeated and foreign ones change nothing."""
    participant = training.participants.get(event.client_id)
    if (
        training.state is not State.ROUND_RUNNING
        or event.round != training.round
        or participant is None
        or participant.state in SETTLED
    ):
        return training
    if isinstance(event, Errored):
        if event.attempt != training.attempt:
            return training  # it failed in the attempt before, and was asked again since
        return training.with_participant(participant.missed(ParticipantState.ERRORED, event.reason))
    reported = replace(
        participant,
        state=ParticipantState.REPORTED,
        samples=event.samples,
        eval_samples=event.eval_samples,
        metrics=dict(event.metrics),
        misses=0,
    )
    return training.with_participant(reported)


def _time_out(training: Training, spared: Collection[str] = ()) -> Training:
    for participant in training.participants.values():
        if participant.state not in SETTLED and participant.client_id not in spared:
            training = training.with_participant(
                participant.missed(ParticipantState.TIMED_OUT, "no report in time")
            )
    return training


def _close(training: Training, now: datetime) -> Step:
    """The time of a round is over; tasks with an intermediate state go on elsewhere, which takes as long again.

    So do, once, those for which another owner is being looked for already.
    """
    silent = [
        client_id
        for client_id in training.participants
        if moving.may_move(training, client_id, training.round)
    ]
    on_the_way = [] if _is_prolonged(training) else _on_the_way(training)
    if not silent and not on_the_way:
        return _settle(training, _time_out(training), now)
    effects: list[Effect] = []
    for client_id in silent:
        training, begun = moving.leave(training, client_id, "no report in time", broken=True)
        effects += begun
    deadline = now + timedelta(seconds=training.quorum.round_timeout)
    effects.append(ArmDeadline(training.round, deadline))
    return Step(replace(_time_out(training, [*silent, *on_the_way]), deadline=deadline), tuple(effects))


def _is_prolonged(training: Training) -> bool:
    length = timedelta(seconds=training.quorum.round_timeout)
    began, deadline = training.round_started, training.deadline
    return began is not None and deadline is not None and deadline > began + length


def _on_the_way(training: Training) -> list[str]:
    """The owners of tasks for which others are being looked for."""
    return [p.client_id for p in training.participants.values() if p.leaving and p.state not in SETTLED]


def _stay(training: Training, client_id: str, reason: str, now: datetime) -> Step:
    """Nobody takes a task over: whoever has it may still report, unless it could not be asked."""
    participant = training.participants.get(client_id)
    if training.state is not State.ROUND_RUNNING or participant is None or not participant.leaving:
        return Step(training)
    if participant.broken:
        missed = participant.missed(ParticipantState.ERRORED, f"{participant.leaving}; {reason}")
        return _settle(training, training.with_participant(missed), now)
    return Step(training.with_participant(replace(participant, leaving="")))


def _settle(before: Training, after: Training, now: datetime) -> Step:
    """Close the round once nobody is left to wait for."""
    if after is before or any(p.state not in SETTLED for p in after.participants.values()):
        return Step(after)
    reported = [p for p in after.participants.values() if p.state is ParticipantState.REPORTED]
    updates = sum(p.samples > 0 for p in reported)
    needed = 0 if after.evaluating_only else after.quorum.needed(len(after.participants))
    if updates < needed:
        return _missed_quorum(after, updates, needed)
    evaluated = _with_metrics(after, pooled_metrics(reported))
    if finish := verdict(evaluated, now):
        return _finish(evaluated, finish)
    return Step(replace(evaluated, state=State.AGGREGATING, deadline=None), (Aggregate(after.round),))


def _missed_quorum(training: Training, updates: int, needed: int) -> Step:
    """Too few updates: the round is asked again of those that are there, then the training fails."""
    missed = training.missed + 1
    if missed < training.quorum.attempts:
        again = replace(
            training, state=State.SELECTING, attempt=training.attempt + 1, missed=missed, deadline=None
        )
        return Step(again, (Select(),))
    asked = len(training.participants)
    reasons = [f"{p.client_id}: {p.reason}" for p in training.participants.values() if p.reason]
    told = f" ({'; '.join(reasons[:REASONS_TOLD])})" if reasons else ""
    return _fail(
        training, f"round {training.round}: updates from {updates} of {asked} clients, {needed} needed{told}"
    )


def _with_metrics(training: Training, metrics: Mapping[str, float]) -> Training:
    """Note how the model that this round began with does."""
    if training.committed == 0:
        return replace(training, initial_metrics=metrics)
    *earlier, last = training.history
    return replace(training, history=(*earlier, replace(last, metrics=metrics)))


def _commit(training: Training, now: datetime) -> Step:
    """The round counts: note it, tell the VAL server, go on to the next."""
    counted = [p for p in training.participants.values() if p.samples > 0]
    record = RoundRecord(
        round=training.round,
        participants=tuple(p.client_id for p in counted),
        dropped=tuple(p.client_id for p in training.participants.values() if p.samples == 0),
        samples=sum(p.samples for p in counted),
        started_at=training.round_started or now,
        committed_at=now,
    )
    percentage = min(99, 100 * training.round // training.objective.max_rounds)
    committed = replace(
        training,
        state=State.SELECTING,
        committed=training.round,
        round=training.round + 1,
        attempt=1,
        missed=0,
        history=(*training.history, record),
        percentage=percentage,
    )
    return Step(committed, (Notify(messages.progress(training, percentage)), Select()))


def _finish(training: Training, finish: Finish) -> Step:
    """Store the result first; the training has ended only when it is there."""
    if finish.state is State.FAILED:
        return _fail(training, finish.reason, finish.error)
    ending = replace(training, state=State.AGGREGATING, deadline=None, finish=finish)
    return Step(ending, (StoreResult(finish),))


def _end(training: Training, finish: Finish) -> Step:
    percentage = 100 if finish.state is State.COMPLETED else training.percentage
    ended = replace(training, state=finish.state, reason=finish.reason, percentage=percentage)
    return Step(ended, (Notify(messages.ended(ended, finish)), *_leaving(training)))


def _fail(training: Training, reason: str, error: str | None = "PERFORMANCE_ERRORS") -> Step:
    failed = replace(training, state=State.FAILED, reason=reason, finish=None, deadline=None)
    return Step(failed, (Notify(messages.without_result(failed, error)), *_leaving(training)))


def _cancel(training: Training, reason: str) -> Step:
    """End at once; the model of the last committed round is stored first."""
    if training.committed:
        return _finish(training, Finish(State.CANCELLED, training.committed, reason))
    cancelled = replace(training, state=State.CANCELLED, reason=reason, deadline=None)
    return Step(cancelled, (Notify(messages.without_result(cancelled, None)), *_leaving(training)))


def _leaving(training: Training) -> tuple[Effect, ...]:
    return (Withdraw(tuple(training.participants.values())), CleanUp())


def _offend(training: Training, client_id: str, reason: str, now: datetime) -> Step:
    """Note a refused update; after too many of them the client is excluded from the training."""
    offender = training.participants[client_id]
    offender = replace(offender, offences=offender.offences + 1, reason=reason)
    noted = training.with_participant(offender)
    if offender.offences < training.quorum.max_offences:
        return Step(noted)
    if len(training.participants) == 1:
        return _fail(noted, f"client {client_id} was excluded: {reason}")
    return _leave(noted, frozenset({client_id}), now)


def _leave(training: Training, client_ids: frozenset[str], now: datetime) -> Step:
    """The operation was stopped at some clients: the others go on; with nobody left it is cancelled."""
    leaving = tuple(p for client_id, p in training.participants.items() if client_id in client_ids)
    if leaving and len(leaving) == len(training.participants):
        return _cancel(training, "the operation was stopped at every client")
    stopped = replace(training, stopped=(*training.stopped, *client_ids))
    step = Step(stopped)
    if training.state is State.ROUND_RUNNING and leaving:
        remaining = {k: p for k, p in training.participants.items() if k not in client_ids}
        step = _settle(training, replace(stopped, participants=remaining), now)
    return Step(step.training, (*step.effects, Withdraw(leaving))) if leaving else step

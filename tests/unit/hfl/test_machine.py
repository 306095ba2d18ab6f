"""The state machine of a training: whole histories of rounds, and every way a training can end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aimle_server.hfl import events
from aimle_server.hfl.machine import TRANSITIONS, ForbiddenTransitionError, Step, advance
from aimle_server.hfl.objective import Objective, StopConditions
from aimle_server.hfl.training import Participant, ParticipantState, QuorumRule, State, Training

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAMES = ("a", "b", "c", "d")


def training(**changes: Any) -> Training:
    """A training that was just requested, with a VAL server that listens."""
    request = {
        "trnType": "TRAIN_HFL",
        "datasetId": ["digits"],
        "notifUri": "http://val/n",
        "memUpdNotif": True,
    }
    plain = Training(
        training_id="t",
        owner="val",
        request=request,
        profile={},
        service_id="svc",
        model_id="m",
        output_model_id="m.t",
        objective=Objective(target=0.9, max_rounds=3),
        members=NAMES,
    )
    return replace(plain, **changes)


def participants(*names: str) -> tuple[Participant, ...]:
    """Clients as selection gives them."""
    return tuple(Participant(name, f"http://{name}", f"key-{name}", "digits") for name in names)


class History:
    """Plays events to a training and keeps what came of each."""

    def __init__(self, start: Training) -> None:
        self.training = start
        self.effects: list[events.Effect] = []
        self.notifications: list[Any] = []

    def play(self, *happened: events.Event, at: datetime = NOW) -> "History":
        """Let these happen, one after the other; the effects kept are those of the last."""
        for event in happened:
            step = advance(self.training, event, at)
            self.training, self.effects = step.training, list(step.effects)
            self.notifications += [effect for effect in step.effects if isinstance(effect, events.Notify)]
        return self

    def round(self, number: int, accuracy: float, *names: str, samples: int = 10) -> "History":
        """A round in which these clients (all, if none is named) report this accuracy and an update."""
        self.play(events.Selected(participants(*NAMES)))
        for name in names or NAMES:
            self.report(name, number, accuracy, samples)
        return self

    def report(self, name: str, number: int, accuracy: float, samples: int = 10) -> "History":
        """One client's report."""
        return self.play(events.Reported(name, number, samples, 5, {"accuracy": accuracy}))

    def effect(self, kind: type[Any]) -> Any:
        """The one effect of this kind that the last event had."""
        [found] = [effect for effect in self.effects if isinstance(effect, kind)]
        return found


def begun(**changes: Any) -> History:
    """A training that a driver has taken up."""
    return History(training(**changes)).play(events.Resumed())


def test_three_rounds_and_an_evaluation() -> None:
    """Three rounds of aggregation are followed by one that only evaluates, then the last model is stored."""
    history = begun()
    for number, accuracy in ((1, 0.1), (2, 0.5), (3, 0.7)):
        history.round(number, accuracy)
        assert history.effects == [events.Aggregate(number)]
        history.play(events.Aggregated(number))
        assert history.effect(events.Select) == events.Select()
    assert history.training.evaluating_only
    history.round(4, 0.8, samples=0)
    finish = history.effect(events.StoreResult).finish
    assert (finish.state, finish.round, finish.error) == (State.COMPLETED, 3, "UNDERFITTING")
    history.play(events.Stored())
    assert history.training.state is State.COMPLETED
    assert [record.metrics for record in history.training.history] == [
        {"accuracy": pytest.approx(value)} for value in (0.5, 0.7, 0.8)
    ]
    assert history.training.initial_metrics == {"accuracy": pytest.approx(0.1)}
    assert len(history.effect(events.Withdraw).participants) == 4


def test_target_reached_stores_the_model_that_reached_it() -> None:
    """A model that reaches the target is the result; the updates of the round that showed it are not used."""
    history = begun().round(1, 0.2).play(events.Aggregated(1)).round(2, 0.95)
    finish = history.effect(events.StoreResult).finish
    assert (finish.state, finish.round, finish.error) == (State.COMPLETED, 1, None)
    history.play(events.Stored())
    last = history.notifications[-1].body
    assert last["percentageComp"] == 100
    assert last["trainOut"] == {"modelAccuracy": 95}
    assert last["aimle"]["outputModelId"] == "m.t"


def test_early_stopping_goes_back_to_the_best_model() -> None:
    """Without improvement for `patience` rounds the best model so far is the result."""
    history = begun(objective=Objective(patience=2, min_delta=0.01, max_rounds=10))
    for number, accuracy in ((1, 0.1), (2, 0.6), (3, 0.605)):
        history.round(number, accuracy).play(events.Aggregated(number))
    history.round(4, 0.5)
    finish = history.effect(events.StoreResult).finish
    assert (finish.state, finish.round, finish.error) == (State.COMPLETED, 2, None)


def test_unacceptable_error_fails() -> None:
    """A result whose error is above what is acceptable is not stored; the VAL server hears why."""
    history = begun(objective=Objective(acceptable_error=0.05, max_rounds=1))
    history.round(1, 0.5).play(events.Aggregated(1)).round(2, 0.6, samples=0)
    assert history.training.state is State.FAILED
    assert history.notifications[-1].body["trainErr"] == "PERFORMANCE_ERRORS"
    assert "acceptable" in (history.training.reason or "")


def test_stop_condition_of_the_operation() -> None:
    """An accuracy set by the VAL server with START ends the training as soon as it is reached."""
    history = begun().play(events.Continued(frozenset(), StopConditions(accuracy=0.5)))
    history.round(1, 0.55)
    assert history.effect(events.StoreResult).finish.state is State.COMPLETED


def test_late_repeated_and_foreign_reports_change_nothing() -> None:
    """A report of another round, of a stranger, or a second one leaves the training as it was."""
    history = begun().round(1, 0.2).play(events.Aggregated(1), events.Selected(participants(*NAMES)))
    history.report("a", 2, 0.3)
    before = history.training
    for event in (
        events.Reported("a", 2, 99, 1, {"accuracy": 1.0}),
        events.Reported("b", 1, 99, 1, {"accuracy": 1.0}),
        events.Reported("stranger", 2, 99, 1, {"accuracy": 1.0}),
        events.Errored("b", 1),
        events.Deadline(1),
        events.Aggregated(1),
        events.Stored(),
    ):
        assert advance(before, event, NOW) == Step(before)


def test_deadline_closes_a_round_with_its_quorum() -> None:
    """At the deadline the round goes on with those who reported; the others count a miss."""
    history = begun().round(1, 0.2, "a", "b")
    assert history.training.state is State.ROUND_RUNNING
    history.play(events.Deadline(1))
    assert history.effects == [events.Aggregate(1)]
    states = {name: (p.state, p.misses) for name, p in history.training.participants.items()}
    assert states["a"] == (ParticipantState.REPORTED, 0)
    assert states["d"] == (ParticipantState.TIMED_OUT, 1)
    history.play(events.Aggregated(1))
    [record] = history.training.history
    assert (record.participants, record.dropped, record.samples) == (("a", "b"), ("c", "d"), 20)


def test_a_round_below_the_quorum_is_asked_again_then_fails() -> None:
    """Too few updates: once more with whoever is there, then the training fails and says the numbers."""
    history = begun(quorum=QuorumRule(min_reports=0.75)).round(1, 0.2, "a").play(events.Deadline(1))
    assert (history.training.state, history.training.attempt) == (State.SELECTING, 2)
    history.round(1, 0.2, "a", "b").play(events.Deadline(1))
    assert history.training.state is State.FAILED
    assert history.training.reason == (
        "round 1: updates from 2 of 4 clients, 3 needed (c: no report in time; d: no report in time)"
    )


def test_reports_without_updates_count_for_evaluation_only() -> None:
    """A report without an update is legal, and is no update."""
    history = begun(quorum=QuorumRule(min_reports=0.5)).play(events.Selected(participants(*NAMES)))
    history.report("a", 1, 0.2, samples=0).report("b", 1, 0.4, samples=0)
    history.report("c", 1, 0.2).report("d", 1, 0.2)
    assert history.effects == [events.Aggregate(1)]
    assert history.training.initial_metrics == {"accuracy": pytest.approx(0.25)}


def test_metrics_are_weighted_by_evaluation_samples() -> None:
    """The figure of a round is the one on the joined evaluation data."""
    history = begun(objective=Objective(max_rounds=3)).play(events.Selected(participants("a", "b")))
    history.play(
        events.Reported("a", 1, 1, 30, {"accuracy": 0.5}), events.Reported("b", 1, 1, 10, {"accuracy": 0.9})
    )
    assert history.training.initial_metrics == {"accuracy": pytest.approx((0.5 * 30 + 0.9 * 10) / 40)}


def test_cancel_before_the_first_round_stores_nothing() -> None:
    """A training cancelled before a round was committed ends at once and tells its clients."""
    history = begun().play(events.Selected(participants(*NAMES)), events.Cancelled("stop"))
    assert history.training.state is State.CANCELLED
    assert len(history.effect(events.Withdraw).participants) == 4
    last = history.notifications[-1].body
    assert last["aimle"] == {"state": "CANCELLED", "reason": "stop"}
    assert [member["clientSel"] for member in last["members"]] == [False] * 4


def test_every_notification_brings_something() -> None:
    """Members, figures or an error (TS 29.482 6.1.8.6.2.3), also where clients measure nothing or nobody came."""
    history = begun().play(events.Selected(participants(*NAMES)))
    history.play(*(events.Reported(name, 1, 1, 0, {}) for name in NAMES), events.Aggregated(1))
    history.play(events.Cancelled("stop"), events.Stored())
    alone = begun().play(events.Cancelled("stop"))
    bodies = [notification.body for notification in (*history.notifications, *alone.notifications)]
    assert [history.training.state, alone.training.state] == [State.CANCELLED] * 2
    assert all(body.keys() & {"members", "trainOut", "trainErr"} for body in bodies)


def test_cancel_stores_the_last_committed_model() -> None:
    """Cancelled in the middle of a round, the model of the round before is the result."""
    history = begun().round(1, 0.2).play(events.Aggregated(1), events.Selected(participants(*NAMES)))
    history.play(events.Cancelled("stop"))
    assert history.effect(events.StoreResult).finish.round == 1
    history.play(events.Stored())
    assert history.training.state is State.CANCELLED
    assert history.notifications[-1].body["aimle"]["outputModelId"] == "m.t"


def test_stopping_some_clients_lets_the_others_go_on() -> None:
    """STOP at one client withdraws it; the round closes with the rest, and it is not asked again."""
    history = begun().round(1, 0.2, "a", "b", "c").play(events.Left(frozenset({"d"})))
    assert events.Aggregate(1) in history.effects
    assert [p.client_id for p in history.effect(events.Withdraw).participants] == ["d"]
    assert history.training.stopped == ("d",)


def test_stopping_every_client_cancels() -> None:
    """With nobody left the training is cancelled."""
    history = begun().play(events.Selected(participants("a", "b")), events.Left(frozenset({"a", "b", "x"})))
    assert history.training.state is State.CANCELLED


def test_offences_exclude() -> None:
    """A client whose updates are refused three times is withdrawn and not asked again; the others go on."""
    history = begun().round(1, 0.2, "a", "b", "c")
    for _ in range(2):
        history.play(events.Offended("d", "NaN"))
        assert (history.training.participants["d"].reason, history.effects) == ("NaN", [])
    history.play(events.Offended("d", "NaN"))
    assert history.training.stopped == ("d",)
    assert [p.client_id for p in history.effect(events.Withdraw).participants] == ["d"]
    assert events.Aggregate(1) in history.effects


def test_the_last_participant_offends() -> None:
    """A training whose only participant is excluded fails, and says why."""
    history = begun(quorum=QuorumRule(max_offences=1)).play(events.Selected(participants("a")))
    history.play(events.Offended("a", "NaN"))
    assert (history.training.state, history.training.reason) == (State.FAILED, "client a was excluded: NaN")


def test_taken_over_in_a_round_it_is_asked_again() -> None:
    """Another server goes on from the last committed round; clients see another address for the same round."""
    history = begun().round(1, 0.2).play(events.Aggregated(1), events.Selected(participants(*NAMES)))
    stored = history.training.to_document()
    again = History(Training.from_document(stored)).play(events.Resumed())
    assert (again.training.state, again.training.round, again.training.attempt) == (State.SELECTING, 2, 2)
    assert again.effects == [events.Select()]


def test_taken_over_while_storing_it_stores() -> None:
    """A training whose result was being stored stores it again, which changes nothing if it is there."""
    history = begun().round(1, 0.95)
    again = History(Training.from_document(history.training.to_document())).play(events.Resumed())
    assert again.effects == [events.StoreResult(history.training.finish)]  # type: ignore[arg-type]


def test_document_round_trip() -> None:
    """What is stored is the training, whole."""
    history = begun().round(1, 0.2).play(events.Aggregated(1), events.Selected(participants("a", "b")))
    assert Training.from_document(history.training.to_document()) == history.training


def test_member_changes_are_told() -> None:
    """Who joined and who was left out is told by address, once, when somebody asked to hear it."""
    history = begun().round(1, 0.2).play(events.Aggregated(1))
    history.play(events.Selected(participants("a", "b", "c", "x")))
    assert history.effect(events.Notify).body == {
        "members": [
            {"clientSel": True, "clientUri": "http://x"},
            {"clientSel": False, "clientUri": "http://d"},
        ]
    }
    assert [p.client_id for p in history.effect(events.Withdraw).participants] == ["d"]


def test_notifications_are_numbered_and_percentages_never_fall() -> None:
    """Each notification has its place in the order, and progress only grows."""
    history = begun()
    for number in (1, 2, 3):
        history.round(number, 0.1).play(events.Aggregated(number))
    history.round(4, 0.1, samples=0).play(events.Stored())
    assert [n.sequence for n in history.notifications] == list(range(1, len(history.notifications) + 1))
    told = [n.body["percentageComp"] for n in history.notifications if "percentageComp" in n.body]
    assert told == [33, 66, 99, 100]


def test_without_an_address_nobody_is_notified() -> None:
    """A request without `notifUri` runs all the same, and queues nothing."""
    request = {"trnType": "TRAIN_HFL", "datasetId": ["digits"]}
    history = begun(request=request).round(1, 0.95).play(events.Stored())
    assert history.training.state is State.COMPLETED
    assert history.notifications == []


def test_round_deadline_is_armed() -> None:
    """A round that starts knows when it closes."""
    history = begun(quorum=QuorumRule(round_timeout=30)).play(events.Selected(participants("a")))
    assert history.effect(events.ArmDeadline) == events.ArmDeadline(1, NOW + timedelta(seconds=30))


@pytest.mark.parametrize("state", sorted(State))
def test_broken_fails_from_every_open_state(state: State) -> None:
    """Work that breaks fails the training wherever it stands; an ended one stays as it ended."""
    step = advance(training(state=state), events.Broken("disk full"), NOW)
    assert step.training.state is (State.FAILED if State.FAILED in TRANSITIONS[state] else state)


def test_a_step_outside_the_table_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """`advance` never takes a step that the table does not have."""
    monkeypatch.setitem(TRANSITIONS, State.SELECTING, frozenset())  # type: ignore[arg-type]
    with pytest.raises(ForbiddenTransitionError, match="SELECTING -> FAILED"):
        advance(training(state=State.SELECTING), events.Broken("x"), NOW)


def test_an_end_is_tidied_up_again_by_whoever_takes_over() -> None:
    """A server that dies right after the end leaves telling the clients, and cleaning up, to the next one."""
    history = begun().round(1, 0.95).play(events.Stored())
    assert history.training.state is State.COMPLETED
    told = len(history.notifications)
    history.play(events.Resumed())
    assert len(history.effect(events.Withdraw).participants) == 4
    assert history.effect(events.CleanUp) == events.CleanUp()
    assert len(history.notifications) == told


def test_an_error_of_the_attempt_before() -> None:
    """A client that failed when a round was asked first may well succeed when it is asked again."""
    quorum = QuorumRule(min_reports=1.0)
    history = begun(quorum=quorum).play(events.Selected(participants(*NAMES)), events.Deadline(1))
    history.play(events.Selected(participants(*NAMES)))
    assert history.training.attempt == 2
    history.play(events.Errored("a", 1, attempt=1))
    assert history.training.participants["a"].state is ParticipantState.TRAINING
    history.play(events.Errored("a", 1, attempt=2))
    assert history.training.participants["a"].state is ParticipantState.ERRORED


def test_a_subscription_granted_during_selection() -> None:
    """What is known of a participant when the round starts counts, not what was when it was chosen."""
    history = begun().round(1, 0.1).play(events.Aggregated(1))
    history.play(events.Subscribed("a", "http://a/subscriptions/1"), events.Selected(participants(*NAMES)))
    asked = {p.client_id: p.subscription for p in history.effect(events.AskRound).participants}
    assert asked == {"a": "http://a/subscriptions/1", "b": None, "c": None, "d": None}
    history.round(2, 0.1).play(events.Aggregated(2))
    moved = tuple(replace(p, uri="http://elsewhere") for p in participants("a"))
    history.play(events.Selected(moved))
    assert history.effect(events.AskRound).participants[0].subscription is None


def test_a_client_stopped_during_selection() -> None:
    """Where the operation was stopped meanwhile, nothing is asked: the participants are chosen anew."""
    history = begun().play(events.Left(frozenset("a")), events.Selected(participants(*NAMES)))
    assert history.effects == [events.Select()]
    assert history.training.state is State.SELECTING


def test_nobody_is_left_to_evaluate_the_last_model() -> None:
    """The last model is the result without figures, unless figures decide whether it is acceptable."""
    history = begun(objective=Objective(max_rounds=1)).round(1, 0.1).play(events.Aggregated(1))
    history.play(events.SelectionFailed("nobody"))
    assert history.effect(events.StoreResult).finish.round == 1
    strict = Objective(max_rounds=1, acceptable_error=0.5)
    history = begun(objective=strict).round(1, 0.1).play(events.Aggregated(1))
    history.play(events.SelectionFailed("nobody"))
    assert history.training.state is State.FAILED

"""Tasks change hands in the state machine: one owner at any time, one report, every end stated (TS 23.482 8.6)."""

from datetime import timedelta
from typing import Any

import pytest

from aimle_server.hfl import events
from aimle_server.hfl.moving import MOST_MOVES
from aimle_server.hfl.training import Move, Participant, ParticipantState, State, Training
from tests.unit.hfl.test_machine import NAMES, NOW, History, begun, participants


def running(*names: str) -> History:
    """A first round of these clients."""
    return begun().play(events.Selected(participants(*(names or NAMES))))


def handed_over(source: str, target: str, number: int = 1, transfer: str = "x") -> events.HandedOver:
    """The source's task is the target's."""
    move = Move(transfer, number, source, target, "DIRECT", 7, at=NOW)
    return events.HandedOver(move, Participant(target, f"http://{target}", f"key-{target}", ""))


def owners(training: Training) -> list[str]:
    """Who has the tasks of the round."""
    return list(training.participants)


def effects(history: History, kind: type[Any]) -> list[Any]:
    """The last event's effects of a kind."""
    return [effect for effect in history.effects if isinstance(effect, kind)]


def test_the_target_takes_the_sources_place() -> None:
    """It has the source's place and data set and an address of its own; it is asked, the source is told to stop."""
    history = running().play(handed_over("b", "z"))
    assert owners(history.training) == ["a", "z", "c", "d"]
    taken = history.training.participants["z"]
    assert (taken.dataset, taken.key, taken.state) == ("digits", "key-z", ParticipantState.TRAINING)
    assert (taken.own_seat, taken.moves) == ("key-b", 1)
    assert history.effect(events.AskRound) == events.AskRound((taken,), beside=True)
    assert [each.client_id for each in history.effect(events.Withdraw).participants] == ["b"]
    assert [(move.source, move.target) for move in history.training.moves] == [("b", "z")]
    told = history.effect(events.Notify).body["members"]
    assert told == [
        {"clientSel": True, "clientUri": "http://z"},
        {"clientSel": False, "clientUri": "http://b"},
    ]


def test_the_targets_report_counts_in_the_sources_place_once() -> None:
    """A source that reports after the hand-over is late; with the target's report the round is complete."""
    history = running().play(handed_over("b", "z"))
    for name in ("a", "b", "c", "d"):
        history.report(name, 1, 0.5)
    assert history.training.state is State.ROUND_RUNNING
    history.report("z", 1, 0.5).report("z", 1, 0.9)
    assert history.training.state is State.AGGREGATING
    history.play(events.Aggregated(1))
    assert history.training.history[-1].participants == ("a", "z", "c", "d")
    assert history.training.history[-1].samples == 40


def test_whoever_reports_first_has_the_task() -> None:
    """After the source's report nothing changes hands any more."""
    history = running().report("b", 1, 0.5).play(handed_over("b", "z"))
    assert owners(history.training) == list(NAMES)
    assert history.training.moves == ()


@pytest.mark.parametrize(
    "event",
    [
        handed_over("z", "y"),
        handed_over("b", "c"),
        handed_over("b", "z", number=2),
    ],
    ids=["no such source", "to one that has a task", "of another round"],
)
def test_what_cannot_change_hands(event: events.Event) -> None:
    """The training stays as it is."""
    before = running().training
    assert History(before).play(event).training is before


def test_no_task_changes_hands_between_rounds() -> None:
    """While a round is aggregated there is none."""
    history = begun().round(1, 0.5).play(handed_over("b", "z"))
    assert owners(history.training) == list(NAMES)


def test_a_client_that_breaks_is_replaced_if_its_state_is_here() -> None:
    """It is still the owner while another one is looked for, and the round waits for that."""
    history = running("a", "b").report("a", 1, 0.5).play(events.Deposited("b", 1, 7))
    history.play(events.Errored("b", 1, 1, "out of memory"))
    assert history.effects == [events.Relocate("b", "out of memory")]
    assert (owners(history.training), history.training.state) == (["a", "b"], State.ROUND_RUNNING)
    history.play(handed_over("b", "z"))
    assert owners(history.training) == ["a", "z"]
    assert history.training.participants["z"].deposited == 7


def test_a_client_that_breaks_without_a_state_has_failed() -> None:
    """There is nothing to go on from; the reason stands in the training."""
    history = running("a", "b").play(events.Errored("b", 1, 1, "out of memory"))
    assert effects(history, events.Relocate) == []
    broken = history.training.participants["b"]
    assert (broken.state, broken.reason) == (ParticipantState.ERRORED, "out of memory")


def test_nobody_goes_on_with_a_broken_clients_task() -> None:
    """It has failed, with both reasons."""
    history = running("a", "b").play(events.Deposited("b", 1, 7), events.Errored("b", 1, 1, "broken"))
    history.play(events.Unmoved("b", 1, "nobody"))
    broken = history.training.participants["b"]
    assert (broken.state, broken.reason) == (ParticipantState.ERRORED, "broken; nobody")


def test_nobody_goes_on_with_a_stranded_clients_task() -> None:
    """It stays the owner, and its report counts."""
    history = running("a", "b").play(events.Deposited("b", 1, 7), events.Stranded("b", 1, "gone"))
    assert history.effects == [events.Relocate("b", "gone")]
    history.play(events.Stranded("b", 1, "gone"))
    assert history.effects == []
    history.play(events.Unmoved("b", 1, "nobody"))
    assert (history.training.participants["b"].leaving, owners(history.training)) == ("", ["a", "b"])
    assert history.report("b", 1, 0.5).training.participants["b"].samples == 10


def test_a_deadline_gives_tasks_with_a_state_a_second_time() -> None:
    """Who has left nothing is out; who has left a state is replaced, and the round waits as long again, once."""
    history = running("a", "b", "c").report("a", 1, 0.5).play(events.Deposited("b", 1, 7))
    late = NOW + timedelta(seconds=600)
    history.play(events.Deadline(1), at=late)
    assert effects(history, events.Relocate) == [events.Relocate("b", "no report in time")]
    assert history.effect(events.ArmDeadline).at == late + timedelta(seconds=600)
    states = {name: each.state for name, each in history.training.participants.items()}
    assert states["c"] is ParticipantState.TIMED_OUT
    assert states["b"] is ParticipantState.TRAINING
    history.play(events.Deadline(1), at=late + timedelta(seconds=600))
    assert history.training.participants["b"].state is ParticipantState.TIMED_OUT


def test_a_deadline_waits_for_a_task_that_is_on_its_way() -> None:
    """While another owner is being looked for the round does not end; then it is the new owner's."""
    history = running().play(events.Deposited("b", 1, 7))
    for name in ("a", "c", "d"):
        history.report(name, 1, 0.5)
    history.play(events.Errored("b", 1, 1, "it cannot be reached"))
    late = NOW + timedelta(seconds=600)
    history.play(events.Deadline(1), at=late)
    assert history.training.state is State.ROUND_RUNNING
    assert history.effect(events.ArmDeadline).at == late + timedelta(seconds=600)
    assert effects(history, events.Relocate) == []
    history.play(handed_over("b", "z")).report("z", 1, 0.5)
    assert history.training.state is State.AGGREGATING


def test_a_task_does_not_move_for_ever() -> None:
    """After so many moves in one round the next failure stands."""
    history = running("a", "m0").play(events.Deposited("m0", 1, 7))
    for number in range(MOST_MOVES):
        history.play(handed_over(f"m{number}", f"m{number + 1}", transfer=f"x{number}"))
    history.play(events.Errored(f"m{MOST_MOVES}", 1, 1, "too much"))
    assert history.training.participants[f"m{MOST_MOVES}"].reason == "too much"


def test_a_new_round_begins_without_a_state() -> None:
    """What was stored is of the round before; seats are counted from the present owners on."""
    history = running("a", "b").play(events.Deposited("b", 1, 7), handed_over("b", "z"))
    history.report("a", 1, 0.5).report("z", 1, 0.5).play(events.Aggregated(1))
    history.play(events.Selected(tuple(history.training.participants.values())))
    taken = history.training.participants["z"]
    assert (taken.own_seat, taken.deposited, taken.moves) == ("key-z", None, 0)
    assert history.training.seats == ("key-b",)


def test_a_server_that_takes_over_keeps_owners_and_states() -> None:
    """After a crash the round is asked again of those that have the tasks now, who find what was stored."""
    history = running("a", "b").play(events.Deposited("b", 1, 7), handed_over("b", "z"))
    stored = Training.from_document(history.training.to_document())
    assert stored == history.training
    again = History(stored).play(events.Resumed())
    again.play(events.Selected(tuple(again.training.participants.values())))
    assert owners(again.training) == ["a", "z"]
    taken = again.training.participants["z"]
    assert (taken.own_seat, taken.deposited, again.training.attempt) == ("key-b", 7, 2)

"""The part of the state machine by which tasks change hands (TS 23.482 8.6); pure, as `machine`.

A task is a participant's part of the running round. It has one owner at any time, the participant, and the owner
changes in one write of the training: `HandedOver` puts the target in the source's place. Whoever was there before is
a stranger from then on, whose reports change nothing.
"""

from collections.abc import Mapping
from dataclasses import replace

from aimle_server.hfl import messages
from aimle_server.hfl.events import (
    AskRound,
    Deposited,
    Effect,
    HandedOver,
    Notify,
    Relocate,
    Stranded,
    Withdraw,
)
from aimle_server.hfl.training import SETTLED, Participant, Training

MOST_MOVES = 3
"""Times that one task changes hands in one round, beyond which the server moves it no more by itself."""

Moved = tuple[Training, tuple[Effect, ...]]


def advance(training: Training, event: Deposited | HandedOver | Stranded) -> Moved:
    """The training after an event of its running round, and what is to be done."""
    match event:
        case Deposited(client_id, number, iterations):
            owner = training.participants.get(client_id)
            if owner is None or number != training.round or owner.state in SETTLED:
                return training, ()
            seats = tuple(dict.fromkeys((*training.seats, owner.own_seat)))
            noted = replace(training, seats=seats, deposits=training.deposits + 1)
            return noted.with_participant(replace(owner, deposited=iterations)), ()
        case Stranded(client_id, number, reason):
            if not may_move(training, client_id, number):
                return training, ()
            return leave(training, client_id, reason, broken=False)
        case HandedOver():
            return _hand_over(training, event)


def may_move(training: Training, client_id: str, number: int) -> bool:
    """Whether the server moves this client's task of this round by itself: there is a state to go on from."""
    owner = training.participants.get(client_id)
    return (
        owner is not None
        and number == training.round
        and owner.state not in SETTLED
        and owner.deposited is not None
        and not owner.leaving
        and owner.moves < MOST_MOVES
    )


def leave(training: Training, client_id: str, reason: str, *, broken: bool) -> Moved:
    """Look for another owner; until there is one, the client is, and if it is not `broken` it may go on."""
    owner = replace(training.participants[client_id], leaving=reason, broken=broken)
    return training.with_participant(owner), (Relocate(client_id, reason),)


def _hand_over(training: Training, event: HandedOver) -> Moved:
    move, source = event.move, training.participants.get(event.move.source)
    if source is None or source.state in SETTLED or move.round != training.round:
        return training, ()
    if move.target in training.participants or move.target in training.stopped:
        return training, ()
    target = replace(
        event.target.asked(again=True),
        dataset=source.dataset,
        seat=source.own_seat,
        deposited=source.deposited,
        moves=source.moves + 1,
    )
    after = replace(
        training, participants=_in_place(training.participants, source, target), moves=(*training.moves, move)
    )
    effects: list[Effect] = [AskRound((target,), beside=True), Withdraw((source,))]
    if training.request.get("memUpdNotif") and (changes := messages.member_changes(training, after)):
        effects.append(Notify(changes))
    return after, tuple(effects)


def _in_place(
    participants: Mapping[str, Participant], source: Participant, target: Participant
) -> dict[str, Participant]:
    """The participants with the target where the source was."""
    placed = [target if each is source else each for each in participants.values()]
    return {each.client_id: each for each in placed}

"""The places of a training's next round: who has one, and what its subscription keeps of that (TS 23.482 8.13).

The subscription of a training is of a kind of its own in the collection of all subscriptions. Its state names the
selected clients with what makes each a participant, so that one that joined while a round runs is not forgotten when
the server dies; its topics and when it is due say when the selection has to be looked at again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from aimle_server.hfl.training import Move, Participant, Training
from aimle_server.procedures.kept_selection import ELSEWHERE, LONGEST, SHORT, Selected
from aimle_server.procedures.matching import Candidate, training_tags
from ml_repository.registrations import client_topic
from ml_repository.subscriptions import OF_A_TRAINING, Looked, Subscription
from sbi.clock import NEVER

State = Mapping[str, Any]
"""Of a subscription."""

MOST_PARTICIPANTS = 1000
"""Participants of a training whose request says by criteria who takes part, and not how many."""


def subscription_of(training: Training) -> Subscription:
    """The subscription of a training that begins; nobody is selected yet."""
    return Subscription(training.training_id, OF_A_TRAINING, training.owner, {}, NEVER, {})


def seated(training: Training, subscription: Subscription | None) -> list[Participant]:
    """Who was selected for the next round, reports, and was not stopped; without a subscription of the participants.

    Who has taken a task over stays in the place of the one that gave it away.
    """
    everyone = (
        training.participants.values() if subscription is None else _selected(training, subscription.state)
    )
    places = {participant.client_id: participant for participant in everyone}
    places |= {move.target: training.participants[move.target] for move in _moved_lately(training)}
    out = {*training.stopped, *gave_away(training)}
    return [
        participant
        for client_id, participant in places.items()
        if client_id not in out and not is_silent(training, participant)
    ]


def gave_away(training: Training) -> set[str]:
    """Who has given its task away lately, and has no other."""
    return {move.source for move in _moved_lately(training)} - training.participants.keys()


def _moved_lately(training: Training) -> list[Move]:
    """By which tasks came to their owners, in the round that runs or the one before."""
    return [
        move
        for move in training.moves
        if move.round >= training.round - 1 and move.target in training.participants
    ]


def waiting(training: Training, state: State) -> list[Participant]:
    """Those of the selected that joined and are in no round yet."""
    return [p for p in _selected(training, state) if p.client_id not in training.participants]


def given_up(training: Training, subscription: Subscription, looked: Looked) -> list[Participant]:
    """Those that waited for a round, and have no place in it any more."""
    places = {one["client"] for one in looked.state["selected"]}
    return [p for p in waiting(training, subscription.state) if p.client_id not in places]


def is_settled(
    training: Training, subscription: Subscription | None, seats: Sequence[Participant], now: datetime
) -> bool:
    """Whether these places need no look: nothing has happened, nobody has lost one, and enough are taken."""
    return (
        subscription is not None
        and subscription.due > now
        and len(seats) == len(subscription.state.get("selected", ()))
        and len(seats) >= wanted(training)
    )


def is_silent(training: Training, participant: Participant) -> bool:
    """Whether it missed so many rounds in a row that it does not take part any more."""
    return participant.misses >= training.quorum.max_misses


def wanted(training: Training) -> int:
    """How many are to take part; 0: as many as there are. Criteria replace members that were stopped."""
    if training.quorum.wanted or "memSelCrit" in training.request:
        return training.quorum.wanted or len(training.members)
    return len(set(training.members) - set(training.stopped))


def most(training: Training) -> int:
    """How many may take part."""
    return wanted(training) or MOST_PARTICIPANTS


def take(training: Training, candidate: Candidate, key: str) -> Participant:
    """A candidate's place; `key` is for one that does not take part yet."""
    dataset = dataset_of(training, candidate.profile)
    return _participant(training, candidate.client_id, candidate.uri, key, dataset)


def moved(participant: Participant, uri: str) -> Participant:
    """The participant at the address it has now; at another one it knows nothing of its subscription."""
    return participant if participant.uri == uri else replace(participant, uri=uri, subscription=None)


def dataset_of(training: Training, profile: Mapping[str, Any]) -> str:
    """The first of the request's datasets that the client says it has; unsaid, the first."""
    asked: list[str] = training.request["datasetId"]
    has = profile.get("dataSetAvail", {}).get("dataSetIds", ())
    return next((dataset for dataset in asked if dataset in has), asked[0])


def looked(training: Training, seats: Sequence[Participant], found: Selected, now: datetime) -> Looked:
    """What the subscription keeps: who has a place, what would change that, and when to look without an event."""
    missing = len(seats) < most(training)
    topics = [client_topic(participant.client_id) for participant in seats]
    if missing:
        topics += map(client_topic, training.members)
        topics += (training_tags(dataset)[0] for dataset in training.request["datasetId"])
    return Looked(
        state={
            "selected": [
                {"client": one.client_id, "uri": one.uri, "key": one.key, "dataset": one.dataset}
                for one in seats
            ]
        },
        topics=list(dict.fromkeys(topics)),
        due=found.due(now, _pause(training, missing=missing)),
    )


def _selected(training: Training, state: State) -> list[Participant]:
    return [
        _participant(training, one["client"], one["uri"], one["key"], one["dataset"])
        for one in state.get("selected", ())
    ]


def _pause(training: Training, *, missing: bool) -> timedelta:
    if "clientLoc" in training.request["memSelCrit"]:
        return ELSEWHERE
    return SHORT if missing else LONGEST


def _participant(training: Training, client_id: str, uri: str, key: str, dataset: str) -> Participant:
    """A client that takes part stays who it is."""
    known = training.participants.get(client_id)
    return moved(known, uri) if known else Participant(client_id, uri, key, dataset)

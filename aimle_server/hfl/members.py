"""Who takes part in the next round (TS 23.482 8.12.2.1 steps 3 and 4).

Named members (or those of a client set) come first, then whoever fulfils the criteria. Newcomers are asked whether
they take part (8.10); those who stay are not.

A training whose request has criteria keeps its selection as a subscription (8.13) that the watch marks: what happens
to clients while a round runs is looked at then, so that the next round finds its places taken. A round before which
nothing has happened reads no registration. Without criteria the members are looked at before every round.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from aimle_server.hfl import seats
from aimle_server.hfl.candidates import Candidates
from aimle_server.hfl.training import Participant, Training
from aimle_server.procedures import reporting
from aimle_server.procedures.client_participation import AimleClients, depart, participation_request
from aimle_server.procedures.kept_selection import Selector, Wanted, known
from aimle_server.procedures.matching import TRAINING_OPERATION, Candidate
from aimle_server.procedures.schedule import OperationalSchedule
from ml_repository.database import Session
from ml_repository.subscriptions import OF_A_TRAINING, Looked, Subscription, Subscriptions
from sbi.clock import Clock

RETRY_SECONDS = 2.0
"""Pause before looking again for clients where there are too few."""

SCHEDULE_SECONDS = 60.0
"""Longest sleep before the schedule is looked at again: the clock may have been set meanwhile."""


class NotEnoughMembers(Exception):
    """Too few clients fulfil the request or agree to take part; the message is fit for the VAL server."""


class MemberSelection:
    """Chooses participants.

    Args:
        candidates: who may take part.
        subscriptions: keep the selections.
        selector: brings them up to date.
        clients: the way to the clients.
        server_id: who asks, `requesterId`.
        new_key: makes the unguessable part of a participant's addresses.
        join_timeout: seconds to find enough participants before the training fails.
    """

    def __init__(
        self,
        candidates: Candidates,
        subscriptions: Subscriptions,
        selector: Selector,
        clients: AimleClients,
        clock: Clock,
        new_key: Callable[[], str],
        *,
        server_id: str,
        join_timeout: float,
    ) -> None:
        self._candidates = candidates
        self._subscriptions = subscriptions
        self._selector = selector
        self._clients = clients
        self._clock = clock
        self._new_key = new_key
        self._server_id = server_id
        self._join_timeout = join_timeout

    async def begin(self, training: Training, now: datetime, session: Session) -> None:
        """Have a training's clients watched from now on, if it has criteria."""
        if _watched(training):
            await self._subscriptions.add(seats.subscription_of(training), now, session)

    async def end(self, training: Training) -> None:
        """Watch no more; clients that joined and came into no round depart. Doing it twice changes nothing."""
        if subscription := await self._subscription(training):
            await self._depart(training, seats.waiting(training, subscription.state))
            await self._subscriptions.remove(
                OF_A_TRAINING, training.training_id, training.owner, self._clock.now()
            )

    async def concerned(self, trainings: Iterable[Training], now: datetime) -> list[str]:
        """Ids of those of the trainings whose members have to be looked at."""
        watched = [training.training_id for training in trainings if _watched(training)]
        return await self._subscriptions.due(watched, now) if watched else []

    async def choose(self, training: Training, *, afresh: bool) -> tuple[Participant, ...]:
        """The participants of the next round, by client id, once the operational schedule allows one.

        Args:
            afresh: look at the selection whatever the watch says.

        Raises:
            NotEnoughMembers: after `join_timeout` seconds there are still fewer than the quorum.
        """
        await self._wait_for_schedule(training)
        began = self._clock.monotonic()
        needed = training.quorum.needed(seats.wanted(training))
        subscription = await self._subscription(training)
        chosen = seats.seated(training, subscription)
        if afresh or not seats.is_settled(training, subscription, chosen, self._clock.now()):
            chosen = await self._look(training, subscription, chosen)
        while len(chosen) < needed:
            if self._clock.monotonic() - began >= self._join_timeout:
                raise NotEnoughMembers(f"{len(chosen)} clients take part, {needed} needed")
            await self._clock.sleep(RETRY_SECONDS)
            chosen = await self._look(training, await self._subscription(training), chosen)
        return tuple(sorted(chosen, key=lambda participant: participant.client_id))

    async def prepare(self, training: Training) -> None:
        """While a round runs: see who keeps a place in the next one, and have the free ones taken."""
        subscription = await self._subscription(training)
        if subscription is not None:
            await self._look(training, subscription, seats.seated(training, subscription))

    async def _wait_for_schedule(self, training: Training) -> None:
        schedule = OperationalSchedule.of_request(training.request)
        while True:
            now = self._clock.now()
            opens = schedule.opens(now)
            if opens is None:
                raise NotEnoughMembers("the operational schedule is over")
            if opens <= now:
                return
            await self._clock.sleep(min((opens - now).total_seconds(), SCHEDULE_SECONDS))

    async def _subscription(self, training: Training) -> Subscription | None:
        if not _watched(training):
            return None
        return await self._subscriptions.get(
            OF_A_TRAINING, training.training_id, training.owner, self._clock.now()
        )

    async def _look(
        self, training: Training, subscription: Subscription | None, before: Sequence[Participant]
    ) -> list[Participant]:
        """Those of before that still fulfil the request, and newcomers for the free places."""
        now = self._clock.now()
        silent = [p.client_id for p in training.participants.values() if seats.is_silent(training, p)]
        self._candidates.pass_over(training, {*silent, *seats.gave_away(training)})
        found = await self._selector.select([p.client_id for p in before], self._wanted(training), (), now)
        self._candidates.pass_over(training, found.refused)
        stay = [seats.moved(p, found.kept[p.client_id].uri) for p in before if p.client_id in found.kept]
        come = [seats.take(training, candidate, self._new_key()) for candidate in found.joined]
        if subscription is None:
            return [*stay, *come]
        looked = seats.looked(training, [*stay, *come], found, now)
        return [*stay, *come] if await self._keep(training, subscription, looked, come) else stay

    def _wanted(self, training: Training) -> Wanted:
        def make_body(candidate: Candidate, part: str) -> Mapping[str, Any]:
            return membership(training, self._server_id, seats.dataset_of(training, candidate.profile), part)

        return Wanted(
            seats.most(training),
            partial(self._candidates.fits, training),
            lambda _, present: self._candidates.newcomers(training, present),
            make_body,
        )

    async def _keep(
        self, training: Training, subscription: Subscription, looked: Looked, come: Sequence[Participant]
    ) -> bool:
        """Have the subscription remember who has a place; False: another process has, and the newcomers depart."""
        kept = False
        try:
            now = self._clock.now()
            told = reporting.told(subscription, looked, now)
            kept = await self._subscriptions.save(subscription, looked, told, now)
        finally:
            if not kept:
                await self._depart(training, come)
        if kept:
            await self._depart(training, seats.given_up(training, subscription, looked))
        return kept

    async def _depart(self, training: Training, waiting: Iterable[Participant]) -> None:
        """Tell clients that joined, and came into no round, that they are not needed."""
        leaving = {p.client_id: p for p in waiting if not stays_in_set(training, p.client_id)}

        def make_body(candidate: Candidate, part: str) -> Mapping[str, Any]:
            return membership(training, self._server_id, leaving[candidate.client_id].dataset, part)

        await depart(self._clients, [known(p.client_id, p.uri) for p in leaving.values()], make_body)


def membership(training: Training, server_id: str, dataset: str, part: str) -> dict[str, Any]:
    """The AimlecParticipationReq by which a client joins the training (JOIN) or leaves it (DEPART); 8.10."""
    schedule = OperationalSchedule.of_request(training.request).weekly
    return participation_request(
        requester_id=server_id,
        client_set_id=training.request.get("clientSetId", training.training_id),
        part=part,
        operations=[TRAINING_OPERATION],
        service={"valServId": training.service_id},
        model_id=training.output_model_id,
        dataset={"avail": {"ids": [dataset]}},
        schedules=[schedule] if schedule else [],
    )


def stays_in_set(training: Training, client_id: str) -> bool:
    """Whether the client joined its set before the training, and stays in it."""
    return "clientSetId" in training.request and client_id in training.members


def _watched(training: Training) -> bool:
    return "memSelCrit" in training.request

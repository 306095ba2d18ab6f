"""FL members of both registers in one view (TS 23.482 8.5): who is there, and when.

FL members register themselves (8.4); an AIMLE client (8.7) that trains by federated learning is an FL client as well.
Who has several entries, in both registers or as several profiles of a client, is one member, which is there when one
of the entries says so.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from aimle_server.procedures import availability
from aimle_server.procedures.matching import TRAINING_APPLICATION, TRAINING_OPERATION
from ml_repository import fl_members, registrations
from ml_repository.fl_members import FLMembers
from ml_repository.model_access import ANY
from ml_repository.register import validity
from ml_repository.registrations import Registrations, tag
from sbi.clock import NEVER

Wire = Mapping[str, Any]

FL_CLIENT = "FL_CLIENT"

BATCH = 100
"""Members that are read at a time."""


@dataclass(frozen=True)
class Entry:
    """What one entry of a register says of a member.

    Attributes:
        type: an FlMbrType.
        hours: `availTimeSchedCfgs` and `unavblTimeSchedCfgs`, as an AimleClientProfile has them.
        begins, ends: from when to when it counts; None: from now on, without an end.
        capability, location: a ClientCapability and a LocationArea, if stated.
        models: the models that it trains; None: any.
        services: the VAL services that it works for; None: any.
    """

    type: str
    hours: Wire
    begins: datetime | None = None
    ends: datetime | None = None
    capability: Wire | None = None
    location: Wire | None = None
    models: Sequence[str] | None = None
    services: Sequence[str] | None = None

    @classmethod
    def of_member(cls, member: Wire, now: datetime) -> Self:
        """Of an FlMbr. The end of its `timeValidity` is its own statement."""
        begins, ends = validity(member, now)
        return cls(
            type=member["suppAimlRole"],
            hours={"availTimeSchedCfgs": member.get("flMbrAvailSch")},
            begins=begins,
            ends=None if ends == NEVER else ends,
            capability=member.get("flMbrCapability"),
            location=member.get("flMbrLocation"),
            models=member.get("supMlModelId"),
        )

    @classmethod
    def of_profile(cls, profile: Wire) -> Self:
        """Of a SupportedProfile. When its registration expires is no end: clients renew theirs."""
        client = profile["clientProfile"]
        services = tuple(service["valServiceId"] for service in profile["suppServices"])
        return cls(type=FL_CLIENT, hours=client, capability=client["clientCap"], services=services)

    def is_available(self, now: datetime) -> bool:
        """Whether the member can be asked to train now, by this entry."""
        begun = self.begins is None or self.begins <= now
        return begun and (self.ends is None or now < self.ends) and availability.is_available(self.hours, now)

    def changes(self, now: datetime) -> datetime | None:
        """When that is no longer so, or begins to be; None: never, as far as is known."""
        if not self.is_available(now):
            return availability.next_available(self.hours, max(now, self.begins or now))
        ends = (self.ends, availability.available_until(self.hours, now))
        return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True)
class Member:
    """An FL member, by all its entries that are wanted."""

    id: str
    entries: tuple[Entry, ...]

    def is_available(self, now: datetime) -> bool:
        """Whether one of its entries says so."""
        return any(entry.is_available(now) for entry in self.entries)

    def changes(self, now: datetime) -> datetime | None:
        """When to look again whether it is available; None: whenever something is stated."""
        return min((at for entry in self.entries if (at := entry.changes(now))), default=None)

    def entry(self, now: datetime) -> Entry:
        """The entry by which it is described: the first by which it is available."""
        return next((entry for entry in self.entries if entry.is_available(now)), self.entries[0])

    def until(self, now: datetime) -> datetime | None:
        """Until when it is available, if it is and an end is known."""
        ends = [entry.changes(now) for entry in self.entries if entry.is_available(now)]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None


@dataclass(frozen=True)
class Wanted:
    """Which members an FlEvtsSub is about.

    Attributes:
        id, type: of `flMbrInfo`; one of them is there.
        model: the model that they are to train; None: any.
        services: VAL services of which AIMLE clients must work for one; empty: any.
        schedule: when it is trained.
    """

    id: str | None
    type: str | None
    model: str | None
    services: Sequence[str]
    schedule: Sequence[Wire]

    @classmethod
    def of(cls, body: Wire) -> Self:
        """As the subscription says."""
        model = body["mlMdlInfo"]
        return cls(
            id=body["flMbrInfo"].get("flMbrId"),
            type=body["flMbrInfo"].get("flMbrType"),
            model=None if model["mlModelId"] == ANY else model["mlModelId"],
            services=model.get("valServiceIds", ()),
            schedule=body["evtInfo"]["evtType"]["flMdlInfo"]["timeSchedule"],
        )

    def admits(self, entry: Entry) -> bool:
        """Whether the entry is one of those that are wanted."""
        return (
            self.type in (None, entry.type)
            and (self.model is None or entry.models is None or self.model in entry.models)
            and (
                not self.services
                or entry.services is None
                or not set(self.services).isdisjoint(entry.services)
            )
            and availability.meets_schedule(entry.hours, self.schedule)
        )

    def topics(self, known: Iterable[str]) -> list[str]:
        """What events are about that concern these members: those that are known, and those that may come."""
        named = [*known, *([self.id] if self.id else [])]
        topics = [
            topic(one) for one in named for topic in (registrations.client_topic, fl_members.member_topic)
        ]
        if self.id is None and self.type is not None:
            topics += fl_members.topics_of(self.type, self.model)
            topics += [tags[0] for tags in self.searches()]
        return topics

    def searches(self) -> list[list[str]]:
        """The tags by which AIMLE clients are found, one list for each search."""
        if self.type != FL_CLIENT:
            return []
        trains = [tag("app", TRAINING_APPLICATION), tag("op", TRAINING_OPERATION)]
        return [[tag("svc", service), *trains] for service in self.services] or [trains]


class FLMemberView:
    """Finds members in both registers."""

    def __init__(self, members: FLMembers, clients: Registrations) -> None:
        self._members = members
        self._clients = clients

    async def named(self, names: Sequence[str], wanted: Wanted, now: datetime) -> list[Member]:
        """Those of these members that are wanted, available or not."""
        stated = await self._members.by_ids(names, now)
        clients = await self._clients.by_client_ids(names, now)
        found = []
        for name in names:
            entries = [Entry.of_member(stated[name], now)] if name in stated else []
            entries += [Entry.of_profile(one) for one in _training_profiles(clients.get(name))]
            if admitted := tuple(entry for entry in entries if wanted.admits(entry)):
                found.append(Member(name, admitted))
        return found

    async def find(self, wanted: Wanted, first: Sequence[str], now: datetime) -> AsyncGenerator[Member, None]:
        """The wanted members, those of the names `first` before the others; each once, available or not."""
        for member in await self.named(first, wanted, now):
            yield member
        async with aclosing(self._batches(wanted, set(first), now)) as batches:
            async for names in batches:
                for member in await self.named(names, wanted, now):
                    yield member

    async def _batches(
        self, wanted: Wanted, seen: set[str], now: datetime
    ) -> AsyncGenerator[list[str], None]:
        """Names that may be of wanted members and have not been seen, a few at a time."""
        batch: list[str] = []
        async with aclosing(self._names(wanted, now)) as names:
            async for name in names:
                if name not in seen:
                    seen.add(name)
                    batch.append(name)
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _names(self, wanted: Wanted, now: datetime) -> AsyncGenerator[str, None]:
        """Of all that may be wanted by their type; who is wanted by name needs no search."""
        if wanted.id is not None or wanted.type is None:
            return
        async with aclosing(self._members.to_come(wanted.type, now)) as members:
            async for member in members:
                yield member["flMbrId"]
        for tags in wanted.searches():
            async with aclosing(self._clients.candidates(tags, now)) as clients:
                async for client in clients:
                    yield client["_id"]


def _training_profiles(registration: Wire | None) -> list[Wire]:
    """The SupportedProfiles of a registered client by which it does federated learning."""
    profiles = registration["regData"]["suppProfiles"] if registration else ()
    return [
        one
        for one in profiles
        if TRAINING_OPERATION in one["clientProfile"]["aimlOperations"]
        and one["clientProfile"]["clientCap"]["mlAppType"] == TRAINING_APPLICATION
    ]

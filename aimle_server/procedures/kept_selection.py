"""A selection that is kept: who still fulfils the criteria stays, and others are invited for those who are missing.

So are kept the selections that VAL servers subscribe to (TS 23.482 8.13), and the members of a running training
(8.12.2.1 step 3).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aimle_server.procedures import availability
from aimle_server.procedures.client_participation import AimleClients, MakeBody, gather_participants
from aimle_server.procedures.external import External
from aimle_server.procedures.matching import Candidate
from ml_repository.registrations import Registrations

Wire = Mapping[str, Any]

ELSEWHERE = timedelta(seconds=30)
"""Between two looks at what only other systems know: location, velocity, QoS, edge servers."""

SHORT = timedelta(minutes=1)
"""Between two looks where clients are missing: the hours of some may have begun."""

LONGEST = timedelta(days=1)
"""Between two looks where nothing is expected."""

_PLACES = {"availLocCfgs", "unavblLocCfgs"}
"""By which an AimleClientProfile says where the client takes part."""


@dataclass(frozen=True)
class Wanted:
    """Who is to be selected.

    Attributes:
        number: how many at most.
        fits: a registration at a moment, as a candidate if it fulfils the criteria.
        newcomers: candidates, given how many are missing and whom to leave out.
        make_body: asks a candidate.
    """

    number: int
    fits: Callable[[Wire, datetime], Awaitable[Candidate | None]]
    newcomers: Callable[[int, Collection[str]], AsyncGenerator[Candidate, None]]
    make_body: MakeBody


@dataclass(frozen=True)
class Selected:
    """What came of looking at a selection.

    Attributes:
        kept: those of before that still fulfil the criteria, as they are now, by client id.
        joined: newcomers that agreed.
        refused: ids of those that were asked and did not join.
        moving: whether it depends on where one of them is, which a connected system knows.
    """

    kept: Mapping[str, Candidate]
    joined: Sequence[Candidate]
    refused: Sequence[str]
    moving: bool = False

    @property
    def all(self) -> dict[str, Candidate]:
        """Who is selected now, by client id."""
        return {**self.kept, **{candidate.client_id: candidate for candidate in self.joined}}

    def due(self, now: datetime, pause: timedelta) -> datetime:
        """When to look again: after the pause, or when the hours of one end; the end of a registration is an event."""
        pauses = [pause, ELSEWHERE] if self.moving else [pause]
        ends = (availability.available_until(candidate.profile, now) for candidate in self.all.values())
        return min([now + min(pauses), *(end for end in ends if end)])


class Selector:
    """Brings selections up to date.

    Args:
        registrations, clients, external: who is registered, the way to them, what other systems know.
        timeout: seconds that newcomers have to agree, all together.
        patience: seconds that each of them has.
    """

    def __init__(
        self,
        registrations: Registrations,
        clients: AimleClients,
        external: External,
        *,
        timeout: float,
        patience: float,
    ) -> None:
        self._registrations = registrations
        self._clients = clients
        self._external = external
        self._timeout = timeout
        self._patience = patience

    async def select(
        self, before: Sequence[str], wanted: Wanted, out: Collection[str], now: datetime
    ) -> Selected:
        """The selection as it is to be after `before`; nobody in `out` is asked."""
        kept = await self._kept(before, wanted, now)
        missing = wanted.number - len(kept)
        asked: list[str] = []
        joined = await self._invite(wanted, missing, {*kept, *out}, asked) if missing > 0 else []
        agreed = {candidate.client_id for candidate in joined}
        moving = self._external.locates and any(
            _PLACES & one.profile.keys() for one in (*kept.values(), *joined)
        )
        return Selected(kept, joined, [client for client in asked if client not in agreed], moving)

    async def _kept(self, before: Sequence[str], wanted: Wanted, now: datetime) -> dict[str, Candidate]:
        found = await self._registrations.by_client_ids(before, now) if before else {}
        kept: dict[str, Candidate] = {}
        for client in before:
            if len(kept) < wanted.number and client in found:
                candidate = await wanted.fits(found[client], now)
                if candidate is not None:
                    kept[client] = candidate
        return kept

    async def _invite(
        self, wanted: Wanted, missing: int, exclude: Collection[str], asked: list[str]
    ) -> list[Candidate]:
        """Who joined; whoever is asked is noted in `asked`."""

        async def source() -> AsyncGenerator[Candidate, None]:
            async with aclosing(wanted.newcomers(missing, exclude)) as candidates:
                async for candidate in candidates:
                    asked.append(candidate.client_id)
                    yield candidate

        return await gather_participants(
            self._clients,
            source(),
            missing,
            wanted.make_body,
            timeout=self._timeout,
            patience=self._patience,
        )


def known(client: str, uri: str) -> Candidate:
    """A client of which no more is needed than its address."""
    return Candidate(client, uri, {}, "")

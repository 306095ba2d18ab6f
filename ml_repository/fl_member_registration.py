"""FL member registration (TS 23.482 8.4, TS 29.482 6.1.19 and 6.2.4): who offers to take part in FL, and how.

VAL servers register at the AIMLE server (AIMLES_FLMember), which stores them here as whoever uses MLR_FLMember
does. So both APIs are of one register: a configurationId is the same resource in both.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from ml_repository.fl_members import FLMembers
from ml_repository.model_management import RESERVED
from ml_repository.register import faults_of_validity
from sbi.auth import Caller
from sbi.body import load
from sbi.clock import Clock
from sbi.errors import Forbidden, InvalidParam, InvalidRequest, NotFound
from schemas.base import merge_patch
from schemas.fl_member import FlMbr

Wire = Mapping[str, Any]

_FL_MBR = FlMbr()


class FLMemberRegistration:
    """The register of FL members, as those see it who registered them: nobody else does.

    Args:
        members: where they are kept.
        clock: tells the time.
        new_id: makes configuration IDs that nobody guesses.
        changed: called after each change.
    """

    def __init__(
        self,
        members: FLMembers,
        clock: Clock,
        new_id: Callable[[], str],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._members = members
        self._clock = clock
        self._new_id = new_id
        self._changed = changed

    async def register(self, caller: Caller, member: Wire) -> tuple[str, Wire]:
        """Register a member; the configurationId and the FlMbr.

        The same owner's former registration of the member is replaced, its ID is gone.

        Raises:
            InvalidRequest: an attribute makes no sense; invalid_params says which.
            Forbidden: somebody else has a live registration of this member.
        """
        now = self._clock.now()
        check(member, now)
        configuration_id = self._new_id()
        if not await self._members.register(configuration_id, caller.subject, member, now):
            raise Forbidden("this FL member is registered by another owner", cause="FL_MEMBER_ID_IN_USE")
        self._changed()
        return configuration_id, member

    async def get(self, caller: Caller, configuration_id: str) -> Wire:
        """The FlMbr of the caller's member.

        Raises:
            NotFound: the caller has no such live registration.
        """
        return _found(
            await self._members.get(configuration_id, caller.subject, self._clock.now()), configuration_id
        )

    async def replace(self, caller: Caller, configuration_id: str, member: Wire) -> Wire:
        """State another FlMbr for the same member.

        Raises:
            NotFound, InvalidRequest: as for `get` and `register`; also for another flMbrId.
        """
        return await self._change(caller, configuration_id, member, lambda _: member)

    async def modify(self, caller: Caller, configuration_id: str, patch: Wire) -> Wire:
        """The FlMbr after a JSON merge patch: an array that is given replaces the whole array.

        Raises:
            NotFound, InvalidRequest: as for `replace`; also where the patch removes what an FlMbr needs.
        """

        def merged(current: Wire) -> Wire:
            result: Wire = load(_FL_MBR, merge_patch(current, patch))
            return result

        return await self._change(caller, configuration_id, patch, merged)

    async def deregister(self, caller: Caller, configuration_id: str) -> None:
        """Remove a member.

        Raises:
            NotFound: the caller has no such live registration.
        """
        if not await self._members.delete(configuration_id, caller.subject, self._clock.now()):
            raise _not_found(configuration_id)
        self._changed()

    async def _change(
        self, caller: Caller, configuration_id: str, request: Wire, edit: Callable[[Wire], Wire]
    ) -> Wire:
        now = self._clock.now()

        def checked(current: Wire) -> Wire:
            if request["flMbrId"] != current["flMbrId"]:
                raise InvalidRequest.of("/flMbrId", "is not the member of this registration")
            member = edit(current)
            check(member, now)
            return member

        changed = await self._members.change(configuration_id, caller.subject, checked, now)
        self._changed()
        return _found(changed, configuration_id)


def check(member: Wire, now: datetime) -> None:
    """Check what an FlMbr's types do not say of its attributes.

    Raises:
        InvalidRequest: with every attribute that makes no sense.
    """
    wrong = [InvalidParam(param, reason) for param, reason in _faults(member, now)]
    if wrong:
        raise InvalidRequest.naming(wrong)


def _faults(member: Wire, now: datetime) -> Iterator[tuple[str, str]]:
    """JSON pointers of what makes no sense, and why."""
    if not member["flMbrId"]:
        yield "/flMbrId", "is empty"
    for number, data in enumerate(member["flMbrSuppGrp"].get("flMembers", ())):
        if not data.keys() & {"flMemberId", "flMemberAddr"}:
            yield f"/flMbrSuppGrp/flMembers/{number}", "has neither flMemberId nor flMemberAddr"
    for number, model in enumerate(member.get("supMlModelId", ())):
        if model in RESERVED:
            yield f"/supMlModelId/{number}", "not an identifier of a model"
    corners = member.get("areaValidity", {}).get("pointList")
    if corners and len({(corner["lon"], corner["lat"]) for corner in corners}) < 3:
        yield "/areaValidity/pointList", "has fewer than three different corners"
    yield from faults_of_validity(member, now)


def _found(member: Wire | None, configuration_id: str) -> Wire:
    if member is None:
        raise _not_found(configuration_id)
    return member


def _not_found(configuration_id: str) -> NotFound:
    return NotFound(f"no FL member configuration {configuration_id}")

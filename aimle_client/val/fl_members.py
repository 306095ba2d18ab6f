"""FL members: a VAL server offers itself for federated learning (AIMLES_FLMember; TS 23.482 8.4.3b to 8.4.3e)."""

from urllib.parse import quote

from aimle_client.answers import created_id, read
from aimle_client.val.calls import Calls
from aimle_client.val.values import FLMember, Wire
from schemas.fl_member import FlMbr

_PATH = "/aimles-flreg/v1/configurations"
_MEMBER = FlMbr()


class FLMemberOperations(Calls):
    """The FL members that this VAL server has registered; nobody else sees or changes them by these operations.

    `content` is an FlMbr in wire shape, which `fl_member` builds. Every method raises RequestRefused (400) for
    content that breaks a rule, with `invalid_params`, and NotFound for a member that is not there, was registered
    by somebody else, or is past its time.
    """

    async def register_fl_member(self, content: Wire) -> FLMember:
        """Register an FL member, in place of what this VAL server has registered for the same `flMbrId`.

        Raises:
            Forbidden: somebody else has registered it (cause FL_MEMBER_ID_IN_USE).
        """
        answer = await self._connection.request("POST", _PATH, body=content)
        return FLMember(created_id(answer), read(_MEMBER, answer.body))

    async def get_fl_member(self, configuration_id: str) -> FLMember:
        """One FL member."""
        return await self._fl_member("GET", configuration_id)

    async def replace_fl_member(self, configuration_id: str, content: Wire) -> FLMember:
        """Other statements of the same member instead."""
        return await self._fl_member("PUT", configuration_id, content)

    async def modify_fl_member(self, configuration_id: str, patch: Wire) -> FLMember:
        """A JSON merge patch (RFC 7396): an array that is given replaces the whole array.

        Args:
            configuration_id: the member's.
            patch: FlMbrPatch: `flMbrId`, and what is to change of `suppAimlRole`, `flMbrAvailSch`, `supMlModelId`,
                `areaValidity`, `timeValidity` and `allowedMno`.
        """
        return await self._fl_member("PATCH", configuration_id, patch)

    async def deregister_fl_member(self, configuration_id: str) -> None:
        """De-register an FL member."""
        await self._connection.request("DELETE", _path(configuration_id))

    async def _fl_member(self, method: str, configuration_id: str, body: Wire | None = None) -> FLMember:
        answer = await self._connection.request(method, _path(configuration_id), body=body)
        if answer.status == 204:  # the standard lets a server answer a change with nothing
            return await self.get_fl_member(configuration_id)
        return FLMember(configuration_id, read(_MEMBER, answer.body))


def _path(configuration_id: str) -> str:
    return f"{_PATH}/{quote(configuration_id, safe='')}"

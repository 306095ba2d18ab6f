"""AIMLES_FLMember and MLR_FLMember (TS 29.482 6.1.19, 6.2.4; TS 23.482 8.4): the register of FL members."""

from typing import Any

from support.behaviour import EveryOperation, Lifecycle
from support.consumer import Request, fresh
from support.world import World

Json = Any

SERVER, REPOSITORY = "AIMLES_FLMember", "MLR_FLMember"


def member(name: str, **changes: Json) -> Json:
    """An FlMbr."""
    return {
        "flMbrId": name,
        "flMbrSuppGrp": {"flGroupId": "conformance-group"},
        "suppAimlRole": "FL_CLIENT",
        "flMbrCapability": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": "STANDARD_RESOURCE_USAGE"},
    } | changes


def request(api: str, name: str, world: World) -> Request:
    """For a new member."""
    own = fresh("member")
    if name == "RegisterFLMember":
        return Request(member(own))
    made = world.val.call(api, "RegisterFLMember", member(own))
    assert made.status == 201, made
    bodies = {
        "UpdateFLMember": member(own, supMlModelId=["model-1"]),
        "ModifyPartiallyFLMember": {"flMbrId": own, "supMlModelId": ["model-2"]},
    }
    return Request(bodies.get(name), variables={"configurationId": made.location})


class TestEveryOperationOfServer(EveryOperation):
    """Of the AIMLE server's API."""

    api = SERVER

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return request(self.api, name, world)


class TestEveryOperationOfRepository(TestEveryOperationOfServer):
    """Of the ML repository's."""

    api = REPOSITORY


class TestMemberOfServer(Lifecycle):
    """Of members at the AIMLE server."""

    api = SERVER
    collection = "/configurations"

    def request(self, name: str, world: World) -> Request:
        """See above."""
        return request(self.api, name, world)


class TestMemberOfRepository(TestMemberOfServer):
    """Of members at the ML repository."""

    api = REPOSITORY

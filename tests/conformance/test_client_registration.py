"""Aimles_AIMLEClientRegistration (TS 24.560 6.3; TS 23.482 8.7): AIMLE clients register, renew and leave."""

from datetime import datetime, timedelta

from support.behaviour import EveryOperation
from support.consumer import Request, wire
from support.examples import REGISTRATION
from support.world import World

API = REGISTRATION

SHORT = timedelta(seconds=3)
"""How long a registration lasts whose end a test waits for."""


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """Each for a new client."""
        client = world.client()
        if name == "RegAimleClient":
            return Request(client.profile())
        variables = {"registrationId": client.register(world.val)}
        body = {"regData": client.profile()} if name == "UpdateAimleClientReg" else None
        return Request(body, variables=variables)


def test_registration_is_what_was_sent(world: World) -> None:
    """The answer has the client's data as it sent them."""
    profile = world.client().profile()
    answer = world.val.call(API, "RegAimleClient", profile)
    assert answer.status == 201, answer
    registered = answer.body["regData"]
    assert registered["aimleClientId"] == profile["aimleClientId"], answer
    assert registered["suppProfiles"] == profile["suppProfiles"], answer


def test_update_replaces_the_profile(world: World) -> None:
    """What an update states is what is registered."""
    client = world.client()
    variables = {"registrationId": client.register(world.val)}
    changed = client.profile(aimlOperations=["MODEL_INFERENCE"])
    answer = world.val.call(API, "UpdateAimleClientReg", {"regData": changed}, variables=variables)
    assert answer.status in (200, 204), answer
    assert answer.status == 204 or answer.body["regData"]["suppProfiles"] == changed["suppProfiles"], answer


def test_granted_expiry_is_not_later_than_asked_for(world: World) -> None:
    """`expTime` of the answer is at most the proposed one, and in the future (TS 24.560 6.3.6.2.2)."""
    for lifetime in (timedelta(minutes=10), timedelta(days=3650)):
        client = world.client()
        variables = {"registrationId": client.register(world.val)}
        asked = world.val.now() + lifetime
        body = {"regData": client.profile(), "expTime": wire(asked)}
        answer = world.val.call(API, "UpdateAimleClientReg", body, variables=variables)
        assert answer.status in (200, 204), answer
        if answer.status == 200 and "expTime" in answer.body:
            assert world.val.now() < datetime.fromisoformat(answer.body["expTime"]) <= asked, answer


def test_expired_registration_is_gone(world: World) -> None:
    """After `expTime` there is nothing to delete any more: 404."""
    client = world.client()
    variables = {"registrationId": client.register(world.val)}
    asked = world.val.now() + SHORT
    body = {"regData": client.profile(), "expTime": wire(asked)}
    answer = world.val.call(API, "UpdateAimleClientReg", body, variables=variables)
    assert answer.status in (200, 204), answer
    world.val.wait_until(asked)
    answer = world.val.call(API, "DelAimleClientReg", variables=variables)
    assert answer.status == 404, answer


def test_deregistered_is_gone(world: World) -> None:
    """After DELETE there is nothing to update or to delete: 404."""
    client = world.client()
    variables = {"registrationId": client.register(world.val)}
    assert world.val.call(API, "DelAimleClientReg", variables=variables).status == 204
    answer = world.val.call(API, "DelAimleClientReg", variables=variables)
    assert answer.status == 404, answer
    body = {"regData": client.profile()}
    answer = world.val.call(API, "UpdateAimleClientReg", body, variables=variables)
    assert answer.status == 404, answer

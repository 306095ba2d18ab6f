"""AIMLES_AIMLEClientDiscovery (TS 29.482 6.1.6; TS 23.482 8.8): registered AIMLE clients that meet criteria."""

import json
from typing import Any

from support.aimle_client import AimleClient
from support.behaviour import EveryOperation
from support.consumer import Request, fresh
from support.examples import REGISTRATION, criteria
from support.world import World

Json = Any

API = "AIMLES_AIMLEClientDiscovery"


def found(world: World, client: AimleClient, **query: str) -> list[Json]:
    """Who is found by the client's data set; nobody is an empty list (6.1.6.6.2.9)."""
    query = {"filt-criteria": json.dumps(criteria(client.dataset)), **query}
    answer = world.val.call(API, "GetAimleClients", query=query)
    assert answer.status == 200, answer
    return list(answer.body["clients"])


class TestEveryOperation(EveryOperation):
    """Of this API."""

    api = API

    def request(self, name: str, world: World) -> Request:
        """For a client that there is."""
        client = world.registered_client()
        return Request(query={"filt-criteria": json.dumps(criteria(client.dataset))})


def test_registered_client_is_found(world: World) -> None:
    """By its data set, and nobody else with it."""
    client = world.registered_client()
    assert len(found(world, client)) == 1


def test_unmet_criteria_find_nobody(world: World) -> None:
    """Another data set, another client."""
    client = world.registered_client()
    client.dataset = fresh("dataset")
    assert found(world, client) == []


def test_number_of_clients_is_kept(world: World) -> None:
    """Not more than `cl-number`."""
    first, second = world.registered_client(), world.client()
    second.dataset = first.dataset
    second.register(world.val)
    assert len(found(world, first)) == 2
    assert len(found(world, first, **{"cl-number": "1"})) == 1


def test_what_no_longer_holds_does_not_find(world: World) -> None:
    """A changed profile counts from its update on, a client that left is not found."""
    client = world.client()
    variables = {"registrationId": client.register(world.val)}
    changed = {"regData": client.profile(dataSetAvail={"dataSetIds": [fresh("dataset")]})}
    update = world.val.call(REGISTRATION, "UpdateAimleClientReg", changed, variables=variables)
    assert update.status in (200, 204), update
    assert found(world, client) == []
    back = {"regData": client.profile()}
    world.val.call(REGISTRATION, "UpdateAimleClientReg", back, variables=variables)
    assert len(found(world, client)) == 1
    world.val.call(REGISTRATION, "DelAimleClientReg", variables=variables)
    assert found(world, client) == []

"""AIMLES_AIMLEClientDiscovery over HTTP and a real database."""

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient

from ml_repository.database import Database
from tests.support import ManualClock
from tests.support_client_apis import bearer, client_apis
from tests.support_clients import Json, criteria, reg_info

CLIENTS = "/aimles-disc/v1/clients"
UE, VAL = bearer("ue"), bearer("val-server")

Client = TestClient[Any, Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def http(database: Database, clock: ManualClock, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(await client_apis(database, clock))


async def register(http: Client, *infos: Json) -> None:
    for info in infos:
        response = await http.post("/aimles-client-reg/v1/registrations", json=info, headers=UE)
        assert response.status == 201


async def discover(http: Client, wanted: Json, **parameters: str) -> Json:
    query = {"filt-criteria": json.dumps(wanted)} | {
        name.replace("_", "-"): v for name, v in parameters.items()
    }
    response = await http.get(CLIENTS, params=query, headers=VAL)
    assert response.status == 200, await response.text()
    body: Json = await response.json()
    return body


async def test_clients_that_fit(http: Client) -> None:
    """The answer names the clients that meet every criterion and no other."""
    await register(
        http,
        reg_info("ue-1"),
        reg_info("ue-2", service="other"),
        reg_info("ue-3", dataSetAvail={"dataSetIds": ["weather"]}),
        reg_info("ue-4"),
    )
    found = await discover(http, criteria(datasetReq={"avail": {"ids": ["flows"]}}))
    assert sorted(found.pop("clients")) == ["ue-1", "ue-4"]
    assert found == {}


async def test_nobody_fits(http: Client) -> None:
    """Without a match the list is empty, which is no error."""
    assert await discover(http, criteria()) == {"clients": []}


async def test_number_of_clients(http: Client) -> None:
    """`cl-number` bounds the list, and 0 is a number too."""
    await register(http, *(reg_info(f"ue-{n}") for n in range(5)))
    assert len((await discover(http, criteria(), cl_number="3"))["clients"]) == 3
    assert len((await discover(http, criteria(), cl_number="9"))["clients"]) == 5
    assert (await discover(http, criteria(), cl_number="0"))["clients"] == []


async def test_expired_clients_are_not_found(http: Client, clock: ManualClock) -> None:
    """A client whose registration has expired is not discovered."""
    await register(http, reg_info())
    clock.advance(3599)
    assert (await discover(http, criteria()))["clients"] == ["ue-1"]
    clock.advance(1)
    assert (await discover(http, criteria()))["clients"] == []


async def test_clients_outside_their_hours_are_not_found(http: Client, clock: ManualClock) -> None:
    """A client is found only while its schedule lets it take part."""
    await register(
        http, reg_info(availTimeSchedCfgs=[{"timeOfDayStart": "00:30:00", "timeOfDayEnd": "05:00:00"}])
    )
    assert (await discover(http, criteria()))["clients"] == []
    clock.advance(1800)
    assert (await discover(http, criteria()))["clients"] == ["ue-1"]


async def test_supported_tasks(http: Client) -> None:
    """Where task capabilities are asked for, the answer tells which are supported, if any client is found."""
    task = {"compCap": "HIGH"}
    assert await discover(http, criteria(clientTaskCap=task)) == {"clients": []}
    await register(http, reg_info())
    found = await discover(http, criteria(clientTaskCap=task))
    assert found == {"clients": ["ue-1"], "suppTasks": [task]}


async def test_features(http: Client) -> None:
    """Asked for its features, the server answers that it has none of the optional ones."""
    assert await discover(http, criteria(), supported_features="3") == {"clients": [], "suppFeats": "0"}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "filt-criteria"),
        ({"filt-criteria": "{"}, "filt-criteria"),
        ({"filt-criteria": '{"serviceReq": {}}'}, "filt-criteria/serviceReq/valServId"),
        ({"filt-criteria": json.dumps(criteria()), "cl-number": "-1"}, "cl-number"),
        (
            {"filt-criteria": json.dumps(criteria({"dropOfRate": 101}))},
            "filt-criteria/clientAppCap/dropOfRate",
        ),
    ],
)
async def test_wrong_criteria(http: Client, query: dict[str, str], param: str) -> None:
    """Criteria that cannot be understood are refused with the attribute's name."""
    response = await http.get(CLIENTS, params=query, headers=VAL)
    assert response.status == 400
    assert param in [entry["param"] for entry in (await response.json())["invalidParams"]]

"""What the surface promises beside the bodies: paths, methods, queries, owners, hosts, the token endpoint."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_client.apis import NODE_APIS
from aimle_server.apis import SERVED_APIS
from aimle_server.app import build_app
from aimle_server.configuration import build
from aimle_server.settings import Settings
from tests.contract.support_bodies import places, wrong_value
from tests.contract.support_endpoints import BY_NAME, ENDPOINTS, GUARDED, Endpoint, each
from tests.contract.support_queries import ANY_MODEL, CRITERIA, OWNER, STRANGER
from tests.contract.support_surface import World, assert_problem, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPECS = Path(__file__).parents[2] / "specs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One system for all of these tests, which leave its resources as they were or make their own."""
    async with world(mongo_url, f"test_{uuid.uuid4().hex}", tmp_path_factory.mktemp("keys")) as running:
        yield running


@each(ENDPOINTS)
async def test_another_method(system: World, endpoint: Endpoint) -> None:
    """A method that the path does not have: 405, and Allow says which it has."""
    allowed = {
        other.operation.method
        for other in ENDPOINTS
        if (other.api, other.path) == (endpoint.api, endpoint.path)
    }
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} - allowed:
        answer = await system.send(method, system.url(endpoint))
        assert_problem(answer, 405)
        assert set(re.split(r",\s*", answer.headers["Allow"])) == allowed


@pytest.mark.parametrize("api", [*SERVED_APIS, *CLIENT_APIS], ids=lambda api: api.name)
async def test_a_path_that_is_not_there(system: World, api: Any) -> None:
    """Beside, above and below the resources of an API there is nothing: 404."""
    root = system.client.status.uri if api in CLIENT_APIS else system.server.url
    known = {endpoint.path for endpoint in ENDPOINTS if endpoint.api is api}
    for path in (
        "",
        "/",
        "/no-such-resource",
        *(f"{path.removeprefix(api.base_path)}/x/y/z" for path in known),
    ):
        token = system.token([api.scope])
        answer = await system.send(
            "GET", root + api.base_path + path, headers={"Authorization": f"Bearer {token}"}
        )
        assert_problem(answer, 404)
    for path in ("/", "/no-such-api/v1/x", api.base_path.replace("v1", "v2")):
        assert_problem(await system.send("GET", root + path), 404)


@each([endpoint for endpoint in ENDPOINTS if endpoint.operation.query])
async def test_query_parameters(system: World, endpoint: Endpoint) -> None:
    """A parameter that is missing, is not JSON or has a wrong type is named."""
    for param in endpoint.operation.query:
        right = {"filt-criteria": json.dumps(CRITERIA if endpoint.name == "GetAimleClients" else ANY_MODEL)}
        if param.required:
            missing = {name: text for name, text in right.items() if name != param.name}
            answer = await system.call(endpoint, query=missing)
            assert_problem(answer, 400)
            assert answer.invalid == [param.name]
        wrong = (
            ["{", "", "NaN", '"\\ud800"', "7", "[]", '{"x": 9223372036854775808}'] if param.schema else ["-ß"]
        )
        for text in [] if param.name.endswith("-ids") else wrong:
            answer = await system.call(endpoint, query={**right, param.name: text})
            assert_problem(answer, 400)
            assert [name.partition("/")[0] for name in answer.invalid] == [param.name] * len(answer.invalid)
            assert answer.invalid
        for place in places(param.schema) if param.schema else ():
            if place.path[-2:-1] == ("clientQosReqs",):
                continue
            body = place.set(json.loads(right[param.name]), wrong_value(place.field))
            answer = await system.call(endpoint, query={param.name: json.dumps(body)})
            assert_problem(answer, 400)
            assert param.name + place.pointer in answer.invalid, (place.pointer, answer.text)


@each([endpoint for endpoint in GUARDED if endpoint.variables and endpoint.name != "PutTrainingProfile"])
async def test_a_foreign_resource_is_not_there(system: World, endpoint: Endpoint) -> None:
    """Somebody else's resource cannot be told from one that does not exist."""
    [variable] = endpoint.variables
    foreign = await system.example(endpoint, subject=STRANGER)
    missing = await system.example(endpoint, {variable: "no-such-thing"}, subject=STRANGER)
    assert_problem(foreign, 404, has_body=endpoint.operation.method != "HEAD")
    assert foreign.text.replace(system.ids[variable], "ID") == missing.text.replace("no-such-thing", "ID")
    assert foreign.headers.keys() == missing.headers.keys()


@pytest.mark.parametrize(
    ("name", "attribute", "known"),
    [
        ("RequestTrain", {"modelInf": {"mlModelId": "ID"}}, "mlModelId"),
        ("RequestMLModelUpdate", {"mlModelId": "ID"}, "mlModelId"),
        ("Request", {"operId": {"trainingId": "ID"}}, "trainingId"),
        ("RetrieveMLModel", {"modelSelCrit": {**ANY_MODEL, "mlModelId": "ID"}}, "mlModelId"),
    ],
)
async def test_what_a_body_names_of_somebody_else(
    system: World, name: str, attribute: dict[str, Any], known: str
) -> None:
    """A body that names somebody else's resource is answered as if there were none."""
    texts = []
    for identifier in (system.ids[known], "no-such-thing"):
        changed = json.loads(json.dumps(attribute).replace("ID", identifier))
        answer = await system.call(BY_NAME[name], system.body(name) | changed, subject=STRANGER)
        assert_problem(answer, 404)
        texts.append(answer.text.replace(identifier, "ID"))
    assert texts[0] == texts[1]


@each([endpoint for endpoint in ENDPOINTS if endpoint.variables])
async def test_strange_identifiers(system: World, endpoint: Endpoint) -> None:
    """Whatever stands where an identifier belongs, the answer is a refusal."""
    for text in ("%00", "..%2f..", "%ff", "%F0%9F%92%A5", "$where", "a.b", "x" * 2000, "%22%7B%7D", "-1"):
        answer = await system.example(endpoint, dict.fromkeys(endpoint.variables, text))
        own = endpoint.name.endswith("TrainingProfile")  # of the caller, for whatever model
        assert answer.status < 500, (text, answer)
        assert answer.status >= 400 or own, (text, answer)


@pytest.mark.parametrize("host", ["", "a b", "x:99999999", "[::1", "@", "a/b", "%"])
async def test_a_strange_host(system: World, host: str) -> None:
    """A Host header that is none does not break an operation that makes addresses."""
    url = system.url(BY_NAME["GetMLModelsStorages"])
    header = {"Authorization": f"Bearer {system.token(['mlr-mlmm'])}", "Host": host}
    answer = await system.send("GET", url, headers=header)
    assert answer.status in (200, 400), answer


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ({"data": {}}, 401, "invalid_client"),
        ({"json": {"grant_type": "client_credentials"}}, 400, "invalid_request"),
        ({"data": {"grant_type": "client_credentials"}}, 401, "invalid_client"),
        ({"data": {}, "headers": {"Authorization": "Basic !"}}, 401, "invalid_client"),
        ({"data": {"client_id": OWNER, "client_secret": "wrong"}}, 401, "invalid_client"),
        ({"data": b"a=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400, "invalid_request"),
        ({"data": {"grant_type": "x" * 20_000}}, 413, "invalid_request"),
        ({"data": {"grant_type": "password"}}, 400, "unsupported_grant_type"),
        ({"data": {"grant_type": "client_credentials", "scope": "admin"}}, 400, "invalid_scope"),
    ],
    ids=str,
)  # fmt: skip
async def test_the_token_endpoint_refuses_as_oauth_says(
    system: World, options: dict[str, Any], status: int, error: str
) -> None:
    """Its errors are those of RFC 6749 5.2, which OAuth libraries read."""
    if status == 400 and error in ("unsupported_grant_type", "invalid_scope"):
        credentials = system.server.credentials[OWNER]
        options = {"data": options["data"] | {"client_id": OWNER, "client_secret": credentials.secret}}
    answer = await system.send("POST", f"{system.server.url}/oauth2/token", **options)
    assert (answer.status, answer.body["error"]) == (status, error)
    assert answer.body.keys() <= {"error", "error_description"}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_operations_and_documents_are_the_same(mongo_url: str, tmp_path: Path) -> None:
    """Every operationId of the committed documents has its route in the application, and the reverse."""
    documented = set()
    for path in SPECS.glob("*.yaml"):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        base = document["servers"][0]["url"].removeprefix("{apiRoot}")
        own = {
            (method.upper(), base + template, operation["operationId"])
            for template, item in document["paths"].items()
            for method, operation in item.items()
        }
        assert len({name for _, _, name in own}) == len(own), path.name
        documented |= own
    elsewhere = {operation.operation_id for api in (*CLIENT_APIS, *NODE_APIS) for operation in api.operations}
    settings = {"server.data_dir": str(tmp_path), "database.url": mongo_url, "database.name": "test_routes"}
    app = await build_app(build(Settings, settings))
    app.freeze()
    served = {
        (route.method, route.resource.canonical, route.name)
        for route in app.router.routes()
        if route.resource
    }
    await app.cleanup()
    pages = {entry for entry in served if entry[2] in ("healthz", "readyz", "metrics", "through")}
    assert {path for _, path, _ in pages} == {"/healthz", "/readyz", "/metrics", "/aimle-at/v1/{key}{rest}"}
    assert served - pages == {entry for entry in documented if entry[2] not in elsewhere}
    assert elsewhere <= {name for _, _, name in documented}

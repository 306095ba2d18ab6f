"""What every operation of every API promises, whatever it does: refusals that name the reason, and never a 500."""

import asyncio
import json
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from aimle_client.apis import APIS as CLIENT_APIS
from aimle_server.apis import ALL_APIS
from schemas.base import OpenEnum, PatchSchema
from tests.contract.support_bodies import Place, places, wrong_value
from tests.contract.support_endpoints import BY_NAME, ENDPOINTS, GUARDED, WITH_BODY, Endpoint, each
from tests.contract.support_queries import STRANGER
from tests.contract.support_surface import MAX_JSON, MAX_MODEL, World, assert_problem, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 8

MUST_BE_KNOWN = {
    ("Request", "/operMode"),
    ("RequestTrain", "/trnType"),
    ("RequestTrain", "/trainObj/objType"),
    ("ClientParticipation", "/clientSetPart"),
    ("AimleServOperReq", "/servOpMode"),
    ("CreateAimleSplitOpEventSubscription", "/splitOpEventId"),
    ("CreateAimleSplitOpEventSubscription", "/reportReq/notifMethod"),
    ("UpdateIndAimleSplitOpEventSub", "/splitOpEventId"),
    ("UpdateIndAimleSplitOpEventSub", "/reportReq/notifMethod"),
    ("ModifyIndAimleSplitOpEventSub", "/reportReq/notifMethod"),
    ("HFLTraningSubs", "/notifReqs/reportingMode"),
    ("HFLTraningSubs", "/notifReqs/repTerminMode"),
    ("UpdateHFLTrainingSubs", "/notifReqs/reportingMode"),
    ("UpdateHFLTrainingSubs", "/notifReqs/repTerminMode"),
    ("CreateAimleClSelSubscription", "/aimle/reportReq/notifMethod"),
    ("UpdateIndAimleClSelSubscription", "/aimle/reportReq/notifMethod"),
    ("CreateAimleMLModelRetrievalSubscription", "/aimle/reportReq/notifMethod"),
    ("UpdateIndAimleMLModelRetrievalSubscription", "/aimle/reportReq/notifMethod"),
    ("SubFLEvents", "/aimle/reportReq/notifMethod"),
    ("UpdateFLEvents", "/aimle/reportReq/notifMethod"),
}
"""Values of open enumerations that say what is to be done: what this server cannot do it refuses by name."""


every_operation = each(ENDPOINTS)
every_guarded = each(GUARDED)
every_body = each(WITH_BODY)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(mongo_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One system for all of these tests, which leave its resources as they were or make their own."""
    async with world(mongo_url, f"test_{uuid.uuid4().hex}", tmp_path_factory.mktemp("keys")) as running:
        yield running


@every_operation
async def test_a_right_request_is_answered(system: World, endpoint: Endpoint) -> None:
    """The examples that the other tests make wrong are right; only capability keys are unknown (404)."""
    ids = {name: await system.fresh(name) for name in endpoint.variables}
    answer = await system.example(endpoint, ids)
    if endpoint.operation.capability:
        assert_problem(answer, 404, has_body=endpoint.operation.method != "HEAD")
    else:
        assert answer.status in endpoint.operation.answers, answer
        assert ("Location" in answer.headers) == endpoint.operation.location


@every_guarded
async def test_a_token_is_needed_and_must_be_good(system: World, endpoint: Endpoint) -> None:
    """No token, a forged, expired or foreign one: 401 with WWW-Authenticate, before anything else is looked at."""
    scopes = [endpoint.api.scope]
    good = system.token(scopes)
    head, payload, signature = good.split(".")
    bad = {
        "none": "",
        "not bearer": "Basic dmFsLTE6c2VjcmV0",
        "nonsense": "Bearer nonsense",
        "not ASCII": "Bearer t\u00f6ken",
        "signature of another token": f"Bearer {head}.{payload}.{system.token(scopes, STRANGER).split('.')[2]}",
        "unsigned": f"Bearer {head}.{payload}.",
        "another key": "Bearer " + system.token(scopes, key=ec.generate_private_key(ec.SECP256R1())),
        "expired": "Bearer " + system.token(scopes, age=3601),
        "another audience": "Bearer " + system.token(scopes, audience="somebody-else"),
    }
    assert signature
    for why, header in bad.items():
        answer = await system.send(
            endpoint.operation.method,
            system.url(endpoint),
            headers={"Authorization": header} if header else {},
        )
        assert_problem(answer, 401, has_body=endpoint.operation.method != "HEAD")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), why


@every_guarded
async def test_a_token_without_the_scope_is_not_enough(system: World, endpoint: Endpoint) -> None:
    """A good token with every scope but the API's own: 403."""
    others = [api.scope for api in ALL_APIS if api is not endpoint.api]
    header = {"Authorization": f"Bearer {system.token(others)}"}
    answer = await system.send(endpoint.operation.method, system.url(endpoint), headers=header)
    assert_problem(answer, 403, has_body=endpoint.operation.method != "HEAD")


@every_body
async def test_what_is_no_proper_json_object(system: World, endpoint: Endpoint) -> None:
    """Bytes that are not JSON, that no database could hold or that are not an object: 400 with a reason."""
    example = system.body(endpoint.name)
    for data in (
        *(b"", b" ", b"{", b"nonsense", b'{"a": 1,}', b'{"a": 1} b', b"\xff\xfe{", b"{'a': 1}", b'"\x01"'),
        *(b"null", b"true", b"7", b'"text"', b"[]", b"[{}]"),
        *(b"[" * 100_00, b'{"a":' * 5_000, b'{"a":' * 70 + b"1" + b"}" * 70),
    ):
        assert_problem(await system.call(endpoint, data=data), 400)
    for text in (
        "NaN",
        "-Infinity",
        "1e999",
        "9223372036854775808",
        "1" * 5000,
        '"\\ud800"',
        '{"\\ud800": 1}',
    ):
        data = json.dumps({**example, "x-more": 0}).replace('"x-more": 0', f'"x-more": {text}')
        answer = await system.call(endpoint, data=data.encode())
        assert_problem(answer, 400)
        assert len(answer.text) < 1000, text


@every_body
async def test_an_encoding_that_does_not_hold(system: World, endpoint: Endpoint) -> None:
    """A body that says that it is compressed and is not: 400."""
    answer = await system.call(endpoint, system.body(endpoint.name), headers={"Content-Encoding": "gzip"})
    assert_problem(answer, 400)


@every_body
async def test_each_missing_attribute_is_named(system: World, endpoint: Endpoint) -> None:
    """Whichever required attribute is missing, 400 has its JSON pointer."""
    example = system.body(endpoint.name)
    required = [place for place in places(endpoint.operation.body) if place.field.required]
    assert required or not any(field.required for field in endpoint.operation.body.fields.values())
    for place in required:
        answer = await system.call(endpoint, place.remove(example))
        assert_problem(answer, 400)
        assert place.pointer in answer.invalid, (place.pointer, answer.text)


@every_body
async def test_each_attribute_of_a_wrong_type_is_named(system: World, endpoint: Endpoint) -> None:
    """Whichever attribute has a value of another type, 400 has its JSON pointer."""
    example = system.body(endpoint.name)

    async def check(place: Place) -> None:
        answer = await system.call(endpoint, place.set(example, wrong_value(place.field)))
        assert_problem(answer, 400)
        assert place.pointer in answer.invalid, (place.pointer, answer.text)

    checked = [place for place in places(endpoint.operation.body) if place.path[-2:-1] != ("clientQosReqs",)]
    assert checked
    for place in checked:
        await check(place)


@each([endpoint for endpoint in WITH_BODY if not isinstance(endpoint.operation.body, PatchSchema)])
async def test_null_is_no_value(system: World, endpoint: Endpoint) -> None:
    """An attribute that is null is refused by name, except in a patch, where it means removal."""
    example = system.body(endpoint.name)
    for place in (place for place in places(endpoint.operation.body) if len(place.path) == 1):
        answer = await system.call(endpoint, place.set(example, None))
        assert_problem(answer, 400)
        assert place.pointer in answer.invalid, (place.pointer, answer.text)


@every_body
async def test_unknown_attributes_are_ignored(system: World, endpoint: Endpoint) -> None:
    """Members that the schema does not have, in every object of the body, change nothing (TS 29.500 6.6.2)."""

    def with_more(value: Any, name: str = "") -> Any:
        if isinstance(value, list):
            return [with_more(item) for item in value]
        if not isinstance(value, dict):
            return value
        more = {"x-unknown": {"a": [1]}, "_owner": "me", "$set": 1} if name != "metrics" else {}
        return {key: with_more(item, key) for key, item in value.items()} | more

    ids = {name: await system.fresh(name) for name in endpoint.variables}
    answer = await system.call(endpoint, with_more(system.body(endpoint.name, ids)), ids=ids)
    assert answer.status == (404 if endpoint.operation.capability else min(endpoint.operation.answers)), (
        answer
    )
    assert "x-unknown" not in answer.text
    assert "_owner" not in answer.text


@every_body
async def test_unknown_enumeration_values(system: World, endpoint: Endpoint) -> None:
    """Open enumerations take values of later versions, unless they say what to do: those are refused by name."""
    example = system.body(endpoint.name)
    for place in places(endpoint.operation.body):
        if not isinstance(place.field, OpenEnum) or not place.is_in(example) or place.path[-1] == "shape":
            continue
        ids = {name: await system.fresh(name) for name in endpoint.variables}
        body = place.set(system.body(endpoint.name, ids), "OF_A_LATER_VERSION")
        answer = await system.call(endpoint, body, ids=ids)
        if (endpoint.name, place.pointer) in MUST_BE_KNOWN:
            assert_problem(answer, 400)
            assert answer.invalid == [place.pointer]
        else:
            assert answer.status < 400 or place.pointer not in answer.invalid, (place.pointer, answer)


@every_body
async def test_another_content_type(system: World, endpoint: Endpoint) -> None:
    """A body of another type than the operation's, or of none: 415."""
    wrong = {"application/json", "application/merge-patch+json"} - {endpoint.operation.content_type}
    for content_type in (*wrong, "text/plain", "application/x-www-form-urlencoded", "*/*", ""):
        answer = await system.example(endpoint, headers={"Content-Type": content_type})
        assert_problem(answer, 415)


@every_body
async def test_parameters_of_the_content_type(system: World, endpoint: Endpoint) -> None:
    """`; charset=utf-8` after the right type is the right type."""
    ids = {name: await system.fresh(name) for name in endpoint.variables}
    headers = {"Content-Type": f"{endpoint.operation.content_type}; charset=utf-8"}
    assert (await system.example(endpoint, ids, headers=headers)).status not in (400, 415)


@every_body
async def test_a_body_that_is_too_large(system: World, endpoint: Endpoint) -> None:
    """More than the server takes: 413, also where a compressed body becomes larger than that."""
    limit = 1024**2 if endpoint.api in CLIENT_APIS else MAX_JSON
    data = json.dumps({**system.body(endpoint.name), "x": "y" * limit}).encode()
    assert_problem(await system.call(endpoint, data=data), 413)
    packed = {"Content-Encoding": "deflate"}
    assert_problem(await system.call(endpoint, data=zlib.compress(data), headers=packed), 413)


async def test_a_model_that_is_too_large(system: World) -> None:
    """A model over the limit: 413, and its announced length is enough to say so."""
    answer = await system.call(BY_NAME["PutModelArtifact"], data=bytes(MAX_MODEL + 1))
    assert_problem(answer, 413)


@every_body
async def test_the_same_at_once(system: World, endpoint: Endpoint) -> None:
    """Equal requests at one moment, for one resource: each is answered, if need be with a reason, never with 500."""
    ids = {name: await system.fresh(name) for name in endpoint.variables}
    body = system.body(endpoint.name, ids)
    answers = await asyncio.gather(*(system.call(endpoint, body, ids=ids) for _ in range(AT_ONCE)))
    for answer in answers:
        assert answer.status < 500 or answer.status in (501, 503), answer
        if answer.status >= 400:
            assert_problem(answer, answer.status)

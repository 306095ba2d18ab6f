"""How a route table reads as an OpenAPI document, shown on a small API of our own."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sbi.api import MERGE_PATCH, Api, Call, Callback, Operation, Query, no_content
from sbi.openapi import document, stale, write
from schemas.base import Array, Text
from schemas.client_discovery import ClientDiscCriteria, ClientDiscResp
from schemas.common import UintegerText
from schemas.hfl_management import TrainingProfile
from schemas.hfl_training import HflTrngNotify, HflTrngSub, HflTrngSubPatch
from schemas.location import LocationArea5G


async def answer(call: Call) -> web.StreamResponse:
    """Answers whatever is asked."""
    return no_content()


API = Api(
    "Aimle_Example",
    spec="AIMLE",
    version="1.0.0",
    base_path="/aimle-example/v1",
    extension=True,
    operations=(
        Operation(
            "GET",
            "/things",
            "GetThings",
            answer,
            query=(
                Query("criteria", schema=ClientDiscCriteria(), required=True),
                Query("number", field=UintegerText()),
                Query("ids", field=Array(Text())),
            ),
            answers={200: ClientDiscResp()},
        ),
        Operation(
            "POST",
            "/things",
            "CreateThing",
            answer,
            body=HflTrngSub(),
            answers={201: HflTrngSub()},
            location=True,
            callback=Callback("news", HflTrngNotify()),
        ),
        Operation(
            "PATCH",
            "/things/{thingId}",
            "ModifyThing",
            answer,
            body=HflTrngSubPatch(),
            content_type=MERGE_PATCH,
            answers={200: HflTrngSub(), 204: None},
        ),
        Operation("PUT", "/places/{placeId}", "PutPlace", answer, body=LocationArea5G()),
        Operation("PUT", "/profile", "PutProfile", answer, body=TrainingProfile()),
        Operation(
            "GET",
            "/bytes/{key}/{round:[0-9]+}",
            "GetBytes",
            answer,
            answers={200: None},
            capability=True,
            streams="application/octet-stream",
        ),
        Operation(
            "PUT",
            "/bytes/{key}/{round:[0-9]+}",
            "PutBytes",
            answer,
            capability=True,
            streams="application/octet-stream",
        ),
    ),
)
DOCUMENT = document(API)
SCHEMAS = DOCUMENT["components"]["schemas"]


def operation(method: str, path: str) -> Any:
    """An operation of the document."""
    return DOCUMENT["paths"][path][method]


def references(value: Any) -> set[str]:
    """Every reference in a piece of the document."""
    match value:
        case dict():
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        case list():
            return set().union(*map(references, value))
        case _:
            return set()


def test_document_says_whose_it_is() -> None:
    """The head has the API's name, version and base path, and marks an API that 3GPP does not have."""
    assert DOCUMENT["openapi"] == "3.0.0"
    assert DOCUMENT["info"] == {"title": "Aimle_Example", "version": "1.0.0"}
    assert DOCUMENT["servers"][0]["url"] == "{apiRoot}/aimle-example/v1"
    assert DOCUMENT["security"] == [{}, {"oAuth2ClientCredentials": []}]
    assert DOCUMENT["x-aimle-extension"] is True


def test_every_reference_has_its_component() -> None:
    """No reference of the document leads nowhere."""
    components = {
        f"#/components/{kind}/{name}" for kind, items in DOCUMENT["components"].items() for name in items
    }
    assert references(DOCUMENT) <= components


def test_query_parameters() -> None:
    """An object in the query is JSON, a list is comma-separated, and only what is required is marked so."""
    criteria, number, ids = operation("get", "/things")["parameters"]
    assert criteria == {
        "name": "criteria",
        "in": "query",
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ClientDiscCriteria"}}},
    }
    assert number["schema"] == {"type": "integer", "minimum": 0}
    assert not number["required"]
    assert (ids["style"], ids["explode"], ids["schema"]["minItems"]) == ("form", False, 1)


def test_creation_answers_with_a_location_and_promises_a_notification() -> None:
    """201 has a Location header; the callback is sent to the address in the body and answered with 204."""
    create = operation("post", "/things")
    assert create["responses"]["201"]["headers"]["Location"]["required"] is True
    request = create["callbacks"]["news"]["{$request.body#/notifUri}"]["post"]
    body = request["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/HflTrngNotify"}
    assert "204" in request["responses"]


def test_merge_patch_has_its_content_type() -> None:
    """A merge patch is announced as one; that null is allowed is for its content type to say."""
    patch = operation("patch", "/things/{thingId}")
    assert set(patch["requestBody"]["content"]) == {"application/merge-patch+json"}
    assert "nullable" not in str(SCHEMAS["HflTrngSubPatch"])


@pytest.mark.parametrize(
    ("method", "path", "absent"),
    [
        ("get", "/things", {"411", "413", "415"}),
        ("post", "/things", {"307", "308", "406"}),
        ("patch", "/things/{thingId}", {"406"}),
    ],
)
def test_common_errors(method: str, path: str, absent: set[str]) -> None:
    """Each operation has the error answers of TS 29.122 that can happen to it, all of them ProblemDetails."""
    common = {"307", "308", "400", "401", "403", "404", "406", "411", "413", "415", "429", "500", "503"}
    answers = set(operation(method, path)["responses"])
    assert answers & common == common - absent
    assert "default" in answers
    errors = {name: value for name, value in DOCUMENT["components"]["responses"].items() if name[0] in "45d"}
    assert all(set(value["content"]) == {"application/problem+json"} for value in errors.values())


def test_bytes_and_capabilities_are_marked() -> None:
    """A body that is not JSON has its media type; an operation whose URL is the permission asks no token."""
    down, up = (operation(method, "/bytes/{key}/{round}") for method in ("get", "put"))
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    assert down["responses"]["200"]["content"] == content
    assert up["requestBody"] == {"required": True, "content": content}
    assert [parameter["name"] for parameter in up["parameters"]] == ["key", "round"]
    assert (up["security"], up["x-aimle-capability"]) == ([], True)


def test_schemas_show_their_rules() -> None:
    """Open enumerations, alternatives, unions, maps and defaults are in the document as they are enforced."""
    assert SCHEMAS["MlAppType"]["anyOf"] == [
        {"type": "string", "enum": ["FL", "TL", "SL"]},
        {"type": "string"},
    ]
    assert SCHEMAS["EndPoint"]["oneOf"][0] == {"required": ["uri"]}
    assert {"$ref": "#/components/schemas/EllipsoidArc"} in SCHEMAS["GeographicArea"]["anyOf"]
    assert SCHEMAS["ClientDiscResp"]["properties"]["edgeAimleSs"]["minProperties"] == 1
    strategy = SCHEMAS["TrainingProfile"]["properties"]["strategy"]
    assert (strategy["enum"], strategy["default"]) == (["FEDAVG", "FEDPROX", "FEDADAM"], "FEDAVG")


def test_written_documents_are_not_stale(tmp_path: Path) -> None:
    """What was written is up to date until a file is changed, lost, or of an API that is gone."""
    write([API], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["AIMLE_Aimle_Example.yaml"]
    assert stale([API], tmp_path) == []
    (tmp_path / "AIMLE_Aimle_Example.yaml").write_text("openapi: 3.0.0\n")
    (tmp_path / "AIMLE_Gone.yaml").write_text("openapi: 3.0.0\n")
    assert stale([API], tmp_path) == ["AIMLE_Aimle_Example.yaml", "AIMLE_Gone.yaml"]
    write([API], tmp_path)
    assert stale([API], tmp_path) == []

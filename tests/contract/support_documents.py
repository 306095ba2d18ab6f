"""OpenAPI documents as judges: is this body one that the document allows there?"""

import copy
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from aimle_server.apis import ALL_APIS
from sbi.api import Api

Json = Any

ROOT = Path(__file__).parents[2]
OFFICIAL = Path(os.environ.get("AIMLE_3GPP_OPENAPI", ROOT / "../shared/3gpp/bundled"))
_METHODS = ("get", "put", "post", "patch", "delete", "head")
_IDS = Counter(operation.operation_id for api in ALL_APIS for operation in api.operations)


def name_of(api: Api, operation_id: str) -> str:
    """An operation's name in these tests: its operationId, after the API's name where others have the same."""
    return operation_id if _IDS[operation_id] == 1 else f"{api.name}.{operation_id}"


@dataclass(frozen=True)
class Documented:
    """An operation of a document.

    Attributes:
        document: the whole document, as JSON data.
        place: JSON pointer to the operation.
        pattern: matches the paths of URLs that mean it.
    """

    document: Json
    method: str
    path: str
    place: tuple[str, ...]
    pattern: "re.Pattern[str]"

    @property
    def operation(self) -> Json:
        """What the document says of it."""
        return _at(self.document, self.place)

    def check_answer(self, status: int, body: Json) -> None:
        """Raise ValidationError or AssertionError for an answer that the document does not have."""
        assert str(status) in self.operation["responses"], f"{status} is not documented for {self.path}"
        answer = _resolved(self.document, (*self.place, "responses", str(status)))
        self._check_content(answer, body)

    def check_request(self, body: Json) -> None:
        """The same for a request's body."""
        self._check_content((*self.place, "requestBody"), body)

    def check_notification(self, body: Json) -> None:
        """The same for what is sent to the address in the request's `notifUri`."""
        [(name, callback)] = self.operation["callbacks"].items()
        [expression] = callback
        self._check_content((*self.place, "callbacks", name, expression, "post", "requestBody"), body)

    def _check_content(self, place: tuple[str, ...], body: Json) -> None:
        contents = _at(self.document, place).get("content", {})
        assert (body is None) == (not contents), f"a body where none is documented, or the reverse: {place}"
        for media_type in contents:
            if not media_type.endswith("json"):
                assert isinstance(body, bytes)
                continue
            _validate(self.document, (*place, "content", media_type, "schema"), body)


def load(path: Path, *, closed: bool = False) -> dict[str, Documented]:
    """The operations of a document, by operationId; `closed`: objects have no attributes beyond the documented."""
    text = path.read_text(encoding="utf-8")
    document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if closed:
        document = _closed(document)
    base = document["servers"][0]["url"].removeprefix("{apiRoot}")
    return {
        operation["operationId"]: Documented(
            document,
            method.upper(),
            base + template,
            ("paths", template, method),
            re.compile(re.sub(r"{\w+}", "[^/]+", base + template)),
        )
        for template, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    }


def _closed(value: Json) -> Json:
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    closed = {name: _closed(item) for name, item in value.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _at(document: Json, place: tuple[str, ...]) -> Json:
    for name in place:
        document = document[name]
    return document


def _resolved(document: Json, place: tuple[str, ...]) -> tuple[str, ...]:
    reference = _at(document, place).get("$ref")
    return tuple(reference.removeprefix("#/").split("/")) if reference else place


def _validate(document: Json, place: tuple[str, ...], value: Json) -> None:
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in place)
    resource = Resource(contents=_as_json_schema(document), specification=DRAFT4)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    validator = Draft4Validator({"$ref": f"urn:document#{_quoted(pointer)}"}, registry=registry)
    validator.validate(value)


def _quoted(pointer: str) -> str:
    """A pointer in a URI's fragment."""
    return pointer.replace("%", "%25").replace("{", "%7B").replace("}", "%7D").replace("#", "%23")


def _as_json_schema(document: Json) -> Json:
    """OpenAPI 3.0's schemas are those of an early JSON Schema, but for `nullable`."""
    document = copy.deepcopy(document)
    for schema in document["components"]["schemas"].values():
        _allow_null(schema)
    return document


def _allow_null(schema: Json) -> None:
    if isinstance(schema, dict):
        if schema.get("nullable") is True and isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        for item in schema.values():
            _allow_null(item)
    elif isinstance(schema, list):
        for item in schema:
            _allow_null(item)

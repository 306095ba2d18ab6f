"""OpenAPI documents as judges: which operations there are, and whether a body is one that they allow.

A folder of them, JSON or YAML: 3GPP's own files, which refer to each other by file name, or bundled ones.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import quote

import yaml
from jsonschema import Draft4Validator, FormatChecker
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

Json = Any

Path = tuple[str | int, ...]
"""Names and positions that lead to a value in a body."""

FEATURES = ("suppFeat", "suppFeats")
METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
PROBLEM = "application/problem+json"

_BASE = "https://documents.invalid/"
_NAME = re.compile(r"(?:TS\d+_)?(\w+)")
_FORMATS = FormatChecker(formats=())


class NotAsDocumented(AssertionError):
    """A message is not one that the document allows."""


@_FORMATS.checks("date-time", ValueError)
def _is_date_time(value: Json) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_FORMATS.checks("byte", binascii.Error)
def _is_base64(value: Json) -> bool:
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


@dataclass(frozen=True)
class Place:
    """A node of a document: the document's file name, and the names that lead to the node."""

    file: str
    names: tuple[str, ...]

    def __truediv__(self, name: str) -> "Place":
        return Place(self.file, (*self.names, name))

    @property
    def uri(self) -> str:
        """A reference to it, as JSON Schema writes them."""
        pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in self.names)
        return f"{_BASE}{self.file}#{quote(pointer, safe='/~')}"


@dataclass(frozen=True)
class Operation:
    """An operation of an API.

    Attributes:
        api: name of its API, the document's name without the number of the specification.
        name: its operationId.
        base: base path of the API, such as `/mlr-mlmm/v1`.
        path: below that, with its variables in braces.
    """

    documents: "Documents"
    api: str
    name: str
    method: str
    base: str
    path: str
    place: Place

    def __str__(self) -> str:
        return f"{self.method} {self.base}{self.path}"

    @property
    def variables(self) -> list[str]:
        """Names of the variables in its path."""
        return re.findall(r"{([^}]+)}", self.path)

    @property
    def collection(self) -> str:
        """The first part of the path that has no variables: the resource that makes the others, or the operation."""
        return self.path.partition("/{")[0]

    @property
    def content_type(self) -> str | None:
        """Media type of its request's body; None: it has none."""
        contents = self.documents.at(self.place).get("requestBody", {}).get("content", {})
        return next(iter(contents), None)

    def required(self, body: Json) -> list[list[Path]]:
        """Where in a body of this operation the mandatory attributes are.

        Each is a list of one; or of several, of which the document wants at least one.
        """
        return list(self.documents.required(self._body_schema, body)) if self.content_type else []

    @property
    def _body_schema(self) -> Place:
        return self.place / "requestBody" / "content" / str(self.content_type) / "schema"

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that its request's body may have."""
        if self.content_type is None:
            return []
        return list(self.documents.at(self.documents.followed(self._body_schema)).get("properties", {}))

    @property
    def features_in(self) -> str | None:
        """Where a request tells the features that its sender supports: an attribute or a parameter; None: nowhere."""
        parameters = [one["name"] for one in self.documents.at(self.place).get("parameters", [])]
        names = self.attributes if self.content_type else parameters
        return next((name for name in names if "feat" in name.lower()), None)

    @property
    def features_answered(self) -> bool:
        """Whether the answer's type has an attribute for the features that both support."""
        answer = self.documents.followed(self.place / "responses" / str(self.successes[0]))
        content = self.documents.at(answer).get("content", {})
        return any(self.documents.has_features(answer / "content" / name / "schema") for name in content)

    @property
    def required_query(self) -> list[str]:
        """The mandatory parameters of its query."""
        parameters = self.documents.at(self.place).get("parameters", [])
        return [one["name"] for one in parameters if one["in"] == "query" and one.get("required")]

    @property
    def successes(self) -> list[int]:
        """The statuses of success that the document has."""
        statuses = self.documents.at(self.place)["responses"]
        return [int(status) for status in statuses if status.isdigit() and int(status) < 300]

    def check_answer(self, status: int, content_type: str, body: Json) -> None:
        """Raise NotAsDocumented unless the document has this answer; `body` is None where there is none."""
        responses = self.documents.at(self.place)["responses"]
        if str(status) in responses:
            answer = self.documents.followed(self.place / "responses" / str(status))
        elif status >= 400 and "default" in responses:
            answer = self.documents.followed(self.place / "responses" / "400")
        else:
            raise NotAsDocumented(f"{status} is not among the documented answers: {', '.join(responses)}")
        contents = self.documents.at(answer).get("content", {})
        if body is None and (status >= 400 or not contents):
            return
        if body is None:
            raise NotAsDocumented(f"{status} has no body, although one is documented")
        if content_type not in contents:
            allowed = ", ".join(contents) or "no body"
            raise NotAsDocumented(f"{status} comes as {content_type}, the document has: {allowed}")
        self.documents.check(answer / "content" / content_type / "schema", body)

    def check_request(self, content_type: str, body: Json) -> None:
        """Raise NotAsDocumented unless the document has this request."""
        if self.content_type is None:
            if body is not None:
                raise NotAsDocumented("a body where none is documented")
        elif content_type != self.content_type:
            raise NotAsDocumented(f"a request comes as {content_type} instead of {self.content_type}")
        else:
            self.documents.check(self._body_schema, body)

    def check_notification(self, content_type: str, body: Json) -> None:
        """Raise NotAsDocumented unless one of the operation's callbacks has this request."""
        places = list(self._callbacks())
        if not places:
            raise NotAsDocumented(f"{self} has no callbacks")
        contents = [self.documents.at(place).get("requestBody", {}).get("content", {}) for place in places]
        for place, content in zip(places, contents, strict=True):
            if content_type in content:
                self.documents.check(place / "requestBody" / "content" / content_type / "schema", body)
                return
        raise NotAsDocumented(f"a notification comes as {content_type}, which is not documented")

    def _callbacks(self) -> Iterator[Place]:
        callbacks = self.place / "callbacks"
        for name, callback in self.documents.at(self.place).get("callbacks", {}).items():
            for expression in callback:
                yield callbacks / name / expression / "post"


class Documents:
    """All documents of a folder.

    Attributes:
        operations: by API name, each API's by operationId; documents that only define types have none.
    """

    def __init__(self, folder: FilePath) -> None:
        self._documents = {path.name: _load(path) for path in _files(folder)}
        if not self._documents:
            raise ValueError(f"no OpenAPI documents (.json, .yaml, .yml) in {folder}")
        missing = {file for document in self._documents.values() for file in _references(document)}
        if missing := missing - self._documents.keys():
            raise ValueError(f"documents in {folder} refer to {', '.join(sorted(missing))}, not there")
        resources = [
            (_BASE + name, Resource(contents=document, specification=DRAFT4))
            for name, document in self._documents.items()
        ]
        self._registry: Registry[Any] = Registry().with_resources(resources)
        self.operations: dict[str, dict[str, Operation]] = {}
        for name in self._documents:
            operations = {operation.name: operation for operation in self._operations_of(name)}
            if operations:
                self.operations[next(iter(operations.values())).api] = operations

    def _operations_of(self, file: str) -> Iterator[Operation]:
        document = self._documents[file]
        match = _NAME.match(file)
        api = match[1] if match else file
        for path, item in (document.get("paths") or {}).items():
            for method in METHODS:
                if method.lower() in item:
                    base = document["servers"][0]["url"].removeprefix("{apiRoot}").rstrip("/")
                    place = Place(file, ("paths", path, method.lower()))
                    name = item[method.lower()]["operationId"]
                    yield Operation(self, api, name, method, base, path, place)

    def at(self, place: Place) -> Json:
        """The node at a place."""
        node = self._documents[place.file]
        for name in place.names:
            node = node[name]
        return node

    def followed(self, place: Place) -> Place:
        """The place that a node refers to, if it refers to another one."""
        while "$ref" in (node := self.at(place)):
            file, _, pointer = node["$ref"].partition("#/")
            names = (name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/"))
            place = Place(file or place.file, tuple(names))
        return place

    def required(self, schema: Place, value: Json, path: Path = ()) -> Iterator[list[Path]]:
        """Paths to the mandatory attributes that a value of this schema has, as `Operation.required` says."""
        schema = self.followed(schema)
        node = self.at(schema)
        if isinstance(value, dict):
            for alternatives in (node.get("anyOf", []), node.get("oneOf", [])):
                names = [name for one in alternatives for name in one.get("required", []) if name in value]
                if names and all("required" in one for one in alternatives):
                    yield [(*path, name) for name in names]
            for name in value:
                if name in node.get("required", []):
                    yield [(*path, name)]
                if name in node.get("properties", {}):
                    yield from self.required(schema / "properties" / name, value[name], (*path, name))
        elif isinstance(value, list) and value and "items" in node:
            yield from self.required(schema / "items", value[0], (*path, 0))

    def has_features(self, schema: Place, depth: int = 2) -> bool:
        """Whether objects of this schema have an attribute of type SupportedFeatures, themselves or just below."""
        schema = self.followed(schema)
        properties = self.at(schema).get("properties", {})
        return any(name in FEATURES for name in properties) or (
            depth > 1
            and any(self.has_features(schema / "properties" / name, depth - 1) for name in properties)
        )

    def check(self, schema: Place, value: Json) -> None:
        """Raise NotAsDocumented unless `value` is as the schema at this place says."""
        validator = Draft4Validator({"$ref": schema.uri}, registry=self._registry, format_checker=_FORMATS)
        error = best_match(validator.iter_errors(value))
        if error is not None:
            raise NotAsDocumented(f"{error.json_path}: {error.message[:500]}")


def _files(folder: FilePath) -> list[FilePath]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".json", ".yaml", ".yml"))


def _load(path: FilePath) -> Json:
    text = path.read_text(encoding="utf-8")
    document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    _allow_null(document)
    return document


def _references(node: Json) -> Iterator[str]:
    """Names of the other files that a document refers to."""
    if isinstance(node, Mapping):
        reference = node.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            yield reference.partition("#")[0]
        for item in node.values():
            yield from _references(item)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _allow_null(node: Json) -> None:
    """OpenAPI 3.0's schemas are those of an early JSON Schema, but for `nullable`."""
    if isinstance(node, Mapping):
        if node.get("nullable") is True and isinstance(node.get("type"), str):
            node["type"] = [node["type"], "null"]  # type: ignore[index]
        for item in node.values():
            _allow_null(item)
    elif isinstance(node, list):
        for item in node:
            _allow_null(item)

"""An API's table as an OpenAPI 3.0 document (TS 29.501 5.3): what `specs/` holds, one file per API.

apispec turns the schemas into components. What it does not know is added here: open enumerations and unions
as components of their own, rules on required attributes, callbacks, and the error answers that TS 29.122
gives to every operation. The documents of our own APIs say so (`x-aimle-extension`).
"""

import http
import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from apispec.yaml_utils import dict_to_yaml
from marshmallow import fields

from sbi.api import JSON, Api, Callback, Operation, Query
from schemas.base import Map, OpenEnum, Schema, Union
from schemas.common import ProblemDetails

Json = dict[str, Any]

_REDIRECTS = (307, 308)
_ERRORS = (400, 401, 403, 404, 406, 411, 413, 415, 429, 500, 503)
_ONLY_GET = {406}
_ONLY_WITH_BODY = {411, 413, 415}
_LOCATION: Json = {"Location": {"required": True, "schema": {"type": "string"}}}
_BYTES: Json = {"type": "string", "format": "binary"}
_PATH_VARIABLE = re.compile(r"{(\w+)(?::[^{}]+)?}")


def document(api: Api) -> Json:
    """The OpenAPI document of `api`, as plain JSON data."""
    plugin = _Plugin()
    spec = APISpec(api.name, api.version, "3.0.0", plugins=[plugin], **_head(api))
    assert plugin.converter is not None  # noqa: S101 - APISpec has made it
    _add_components(spec)
    for operation in api.operations:
        spec.path(
            _PATH_VARIABLE.sub(r"{\1}", operation.path),
            operations={operation.method.lower(): _operation(operation, plugin.converter)},
        )
    plain: Json = json.loads(json.dumps(spec.to_dict()))
    return {key: plain[key] for key in ("openapi", "info")} | plain


def write(apis: Iterable[Api], directory: Path) -> None:
    """Write each API's document as YAML into `directory`, and remove those of APIs that are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    rendered = _rendered(apis)
    for path in directory.glob("*.yaml"):
        if path.name not in rendered:
            path.unlink()
    for name, text in rendered.items():
        (directory / name).write_text(text, encoding="utf-8")


def stale(apis: Iterable[Api], directory: Path) -> list[str]:
    """Names of the files in `directory` that `write` would change, add or remove."""
    rendered = _rendered(apis)
    present = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.yaml")}
    return sorted(
        name for name in rendered.keys() | present.keys() if rendered.get(name) != present.get(name)
    )


def _rendered(apis: Iterable[Api]) -> dict[str, str]:
    options = {"allow_unicode": True, "width": 110}
    return {f"{api.document}.yaml": dict_to_yaml(document(api), dict(options)) for api in apis}


def _head(api: Api) -> Json:
    head: Json = {
        "servers": [
            {
                "url": f"{{apiRoot}}{api.base_path}",
                "variables": {"apiRoot": {"default": "https://example.com"}},
            }
        ],
        "security": [{}, {"oAuth2ClientCredentials": []}],
    }
    if api.extension:
        head["x-aimle-extension"] = True
    return head


def _add_components(spec: APISpec) -> None:
    credentials: Json = {"clientCredentials": {"tokenUrl": "{tokenUrl}", "scopes": {}}}
    spec.components.security_scheme("oAuth2ClientCredentials", {"type": "oauth2", "flows": credentials})
    problem = {"application/problem+json": {"schema": ProblemDetails()}}
    for status in _REDIRECTS:
        spec.components.response(str(status), {"description": _phrase(status), "headers": _LOCATION})
    for status in _ERRORS:
        spec.components.response(str(status), {"description": _phrase(status), "content": problem})
    spec.components.response("default", {"description": "Any other error", "content": problem})


def _operation(operation: Operation, converter: OpenAPIConverter) -> Json:
    result: Json = {"summary": operation.summary, "operationId": operation.operation_id}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_VARIABLE.findall(operation.path)
    ]
    parameters += [_query_parameter(query, converter) for query in operation.query]
    if parameters:
        result["parameters"] = parameters
    body = _request_body(operation)
    if body:
        result["requestBody"] = body
    answers = {str(status): _answer(operation, status) for status in operation.answers}
    result["responses"] = answers | _failures(operation.method, bool(body), 201 in operation.answers)
    if operation.callback:
        result["callbacks"] = {operation.callback.name: _callback(operation.callback)}
    if operation.capability:
        result |= {"security": [], "x-aimle-capability": True}
    return result


def _query_parameter(query: Query, converter: OpenAPIConverter) -> Json:
    parameter: Json = {"name": query.name, "in": "query", "required": query.required}
    if query.schema is not None:
        return parameter | {"content": {JSON: {"schema": query.schema}}}
    if isinstance(query.field, fields.List):
        explode = bool(query.field.metadata.get("explode", False))
        parameter |= {"style": "form", "explode": explode}
    assert query.field is not None  # noqa: S101 - a Query has one of the two
    return parameter | {"schema": converter.field2property(query.field)}


def _request_body(operation: Operation) -> Json:
    if operation.body is not None:
        return {"required": True, "content": {operation.content_type: {"schema": operation.body}}}
    if operation.streams and operation.method in ("POST", "PUT", "PATCH"):
        return {"required": True, "content": {operation.streams: {"schema": _BYTES}}}
    return {}


def _answer(operation: Operation, status: int) -> Json:
    answer: Json = {"description": _phrase(status)}
    schema = operation.answers[status]
    if schema is not None:
        answer["content"] = {JSON: {"schema": schema}}
    elif operation.streams and operation.method == "GET":
        answer["content"] = {operation.streams: {"schema": _BYTES}}
    if status == 201 and operation.location:
        answer["headers"] = _LOCATION
    return answer


def _failures(method: str, has_body: bool, creates: bool) -> Json:
    """The answers that are no success; an operation that creates a resource redirects nobody."""
    unfit = (_ONLY_GET if method != "GET" else set()) | (_ONLY_WITH_BODY if not has_body else set())
    statuses = [status for status in (*_REDIRECTS, *_ERRORS) if status not in unfit]
    if creates:
        statuses = [status for status in statuses if status not in _REDIRECTS]
    return {name: {"$ref": f"#/components/responses/{name}"} for name in (*map(str, statuses), "default")}


def _callback(callback: Callback) -> Json:
    answers = {"204": {"description": _phrase(204)}} | _failures("POST", True, False)
    body = {"required": True, "content": {JSON: {"schema": callback.schema}}}
    return {callback.expression: {"post": {"requestBody": body, "responses": answers}}}


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).phrase


class _Converter(OpenAPIConverter):
    """apispec's converter with what our schemas have beyond marshmallow's."""

    def schema2jsonschema(self, schema: Schema) -> Json:
        """The component of a schema: its docstring and its rules on required attributes with it."""
        found = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        component: Json = {"description": _doc(type(schema)), **found}
        for keyword, names in (("anyOf", schema.any_of), ("oneOf", schema.one_of)):
            if names:
                component[keyword] = [{"required": [name]} for name in names]
        return component

    def field2property(self, field: fields.Field[Any]) -> Json:
        """The property of a field; open enumerations and unions refer to a component of their own."""
        if isinstance(field, OpenEnum):
            known = {"type": "string", "enum": list(field.values)}
            return self._component(field, {"anyOf": [known, {"type": "string"}]})
        if isinstance(field, Union):
            return self._component(
                field, {"anyOf": [self._reference(schema) for schema in field.types.values()]}
            )
        found: Json = super().field2property(field)
        if isinstance(field, Map) and field.min_properties:
            found["minProperties"] = found.pop("minLength")
        return found

    def _reference(self, schema: type[Schema]) -> Json:
        reference: Json = self.resolve_nested_schema(schema)  # type: ignore[no-untyped-call]
        return reference

    def _component(self, field: fields.Field[Any], component: Json) -> Json:
        name = type(field).__name__
        if name not in self.spec.components.schemas:
            self.spec.components.schema(name, {"description": _doc(type(field)), **component})
        reference: Json = self.spec.components.get_ref("schema", name)
        return reference


class _Plugin(MarshmallowPlugin):
    """apispec's plugin with our converter."""

    Converter = _Converter


def _doc(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())

"""An API as data: its operations, what they take and what they answer.

The same table makes the routes (`mount`), the OpenAPI document (`openapi`) and the tests that run over the
whole surface. A handler gets a `Call`, whose query and body are already validated, and returns a response.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import hdrs, web
from marshmallow import Schema, fields

from sbi.auth import Caller

T = TypeVar("T")

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Call:
    """One request, read and checked.

    Attributes:
        request: the aiohttp request, for handlers that stream.
        caller: whom the request is made for.
        query: validated query parameters by their wire names.
        body: the validated body, in wire shape, or None.
        base_url: apiRoot and base path of the API, `http://host:port/aimles-sel/v1`.
    """

    request: web.Request
    caller: Caller
    query: Mapping[str, Any]
    body: Any
    base_url: str

    def path(self, name: str) -> str:
        """A variable of the path."""
        return self.request.match_info[name]

    def __getitem__(self, key: "web.AppKey[T]") -> T:
        """A service of the application, e.g. `call[REPOSITORY]`."""
        return self.request.config_dict[key]


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Query:
    """A query parameter.

    Attributes:
        name: its wire name, e.g. `filt-criteria`.
        field: validates a plain value (`Integer`, `String`, or a comma-separated `List` of them).
        schema: validates an object sent as JSON text (`content: application/json` in the document).
        required: whether the request is refused without it.
    """

    name: str
    field: fields.Field[Any] | None = None
    schema: Schema | None = None
    required: bool = False


@dataclass(frozen=True)
class Callback:
    """A notification that an operation promises: where (`notifUri` of the body) and what."""

    name: str
    schema: Schema
    expression: str = "{$request.body#/notifUri}"


@dataclass(frozen=True)
class Operation:
    """One method on one path.

    Attributes:
        method: HTTP method.
        path: below the API's base path, `/registrations/{registrationId}`.
        operation_id: the document's `operationId`.
        handler: answers it.
        body: schema of the request body; None: no body, or a handler that streams it.
        content_type: of the request body.
        query: query parameters.
        answers: successful statuses and their bodies (None: empty).
        location: 201 carries a Location header.
        callback: the notification it leads to.
        summary: one line for the document.
        capability: the URL itself is the permission (unguessable path), no token is asked for.
        streams: media type of a body that is not JSON and that the handler reads itself.
    """

    method: str
    path: str
    operation_id: str
    handler: Handler
    body: Schema | None = None
    content_type: str = JSON
    query: tuple[Query, ...] = ()
    answers: Mapping[int, Schema | None] = field(default_factory=lambda: {204: None})
    location: bool = False
    callback: Callback | None = None
    summary: str = ""
    capability: bool = False
    streams: str | None = None


@dataclass(frozen=True)
class Api:
    """An API: name and version as in its document, base path, scope and operations.

    Attributes:
        name: `AIMLES_AIMLEClientDiscovery`; `document` is its file's stem.
        spec: `TS 29.482` or `TS 24.560`; for our own extensions `AIMLE`.
        version: `info.version`.
        base_path: `/aimles-disc/v1`.
        operations: the table.
        extension: whether 3GPP does not have it.
    """

    name: str
    spec: str
    version: str
    base_path: str
    operations: tuple[Operation, ...]
    extension: bool = False

    @property
    def scope(self) -> str:
        """The OAuth 2.0 scope: the base name, `aimles-disc`."""
        return self.base_path.split("/")[1]

    @property
    def document(self) -> str:
        """Stem of the document's file: `TS29482_AIMLES_AIMLEClientDiscovery`."""
        return f"{self.spec.replace(' ', '').replace('.', '')}_{self.name}"


def ok(body: Any) -> web.Response:
    """200 with a JSON body."""
    return _json(200, body)


def created(body: Any, location: str) -> web.Response:
    """201 with a JSON body and the URI of the new resource."""
    response = _json(201, body)
    response.headers[hdrs.LOCATION] = location
    return response


def no_content() -> web.Response:
    """204."""
    return web.Response(status=204)


def _json(status: int, body: Any) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(body, separators=(",", ":")).encode(), content_type=JSON
    )

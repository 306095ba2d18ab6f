"""An API's table as an aiohttp sub-application: token, parameters and body are checked here, once."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web
from marshmallow import ValidationError, fields

from sbi.api import Api, Call, Operation, Query
from sbi.auth import Authenticator, Caller
from sbi.body import load, parse_json, read_json
from sbi.errors import InvalidRequest

AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
PUBLIC_URL = web.AppKey("public_url", str)
"""apiRoot under which callers reach this server, without a trailing slash; empty: as the request says."""

NOBODY = Caller("")


def mount(app: web.Application, apis: Iterable[Api]) -> None:
    """Add each API below its base path; `app` holds AUTHENTICATOR and PUBLIC_URL."""
    for api in apis:
        sub = web.Application()
        for operation in api.operations:
            sub.router.add_route(
                operation.method, operation.path, _endpoint(api, operation), name=operation.operation_id
            )
        app.add_subapp(api.base_path, sub)


def _endpoint(api: Api, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        caller = NOBODY
        if not operation.capability:
            header = request.headers.get("Authorization")
            caller = await request.config_dict[AUTHENTICATOR].authenticate(header, api.scope)
        query = {
            param.name: value
            for param in operation.query
            if (value := _parameter(request, param)) is not None
        }
        body = None
        if operation.body is not None:
            body = load(operation.body, await read_json(request, operation.content_type))
        base_url = api_root(request) + api.base_path
        return await operation.handler(Call(request, caller, query, body, base_url))

    return endpoint


def api_root(request: web.Request) -> str:
    """apiRoot (TS 29.501 4.4.1) under which the caller reached us.

    Raises:
        InvalidRequest: there is no PUBLIC_URL, and the request's Host header is not a host.
    """
    try:
        return request.config_dict[PUBLIC_URL] or str(request.url.origin())
    except ValueError as error:
        raise InvalidRequest.of("Host", "not the name or address of a host") from error


def _parameter(request: web.Request, param: Query) -> Any:
    values = request.query.getall(param.name, [])
    if not values:
        if param.required:
            raise InvalidRequest.of(param.name, "this parameter is required")
        return None
    if param.schema is not None:
        return load(param.schema, parse_json(values[0], param.name), f"{param.name}")
    assert param.field is not None  # noqa: S101 - a Query has one of the two
    raw: Any = values[0]
    if isinstance(param.field, fields.List):
        raw = [item for value in values for item in value.split(",")]
    try:
        return param.field.deserialize(raw)
    except ValidationError as error:
        raise InvalidRequest.of(param.name, "; ".join(map(str, error.messages))) from error

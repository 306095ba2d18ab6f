"""JSON in: read once, parsed strictly, validated by a schema, refused with the attribute's name."""

import json
from typing import Any, NoReturn

from aiohttp import web
from marshmallow import Schema, ValidationError

from sbi.errors import InvalidParam, InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_INT64 = 2**63
_MAX_DEPTH = 64


async def read_json(request: web.Request, content_type: str) -> Any:
    """The request's body as plain JSON data."""
    if request.content_type != content_type:
        raise UnsupportedMediaType(f"the body must be {content_type}")
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise PayloadTooLarge("the body is larger than this server takes") from error
    return parse_json(raw, "")


def parse_json(raw: bytes | str, param: str) -> Any:
    """Strict JSON: no NaN, nothing the database cannot hold, bounded depth; errors name `param`."""
    try:
        value = json.loads(raw, parse_constant=_no_constant)
        _check_storable(value, 0)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else f"not valid JSON: {error}"
        raise InvalidRequest(
            f"{param or 'body'}: {reason}", [InvalidParam(param, reason)] if param else ()
        ) from error
    return value


def load(schema: Schema, data: Any, prefix: str = "") -> Any:
    """`data` validated by `schema`: unknown attributes dropped, every wrong one named as a JSON pointer."""
    try:
        return schema.load(data)
    except ValidationError as error:
        params = [InvalidParam(pointer, reason) for pointer, reason in _flatten(error.messages, prefix)]
        names = ", ".join(param.param or "body" for param in params)
        raise InvalidRequest(f"wrong or missing: {names}", params) from error


def _flatten(messages: Any, pointer: str) -> list[tuple[str, str]]:
    """marshmallow's nested messages as (JSON pointer, reason); errors of the whole object point at it."""
    if isinstance(messages, dict):
        return [
            pair
            for key, nested in messages.items()
            for pair in _flatten(nested, pointer if key == "_schema" else f"{pointer}/{_escape(key)}")
        ]
    if isinstance(messages, list):
        return [pair for message in messages for pair in _flatten(message, pointer)]
    return [(pointer, str(messages))]


def _escape(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_storable(value: Any, depth: int) -> None:
    """Refuse what parses but cannot be stored: 65-bit integers, lone surrogates, bottomless nesting."""
    if depth > _MAX_DEPTH:
        raise RecursionError
    match value:
        case bool() | None:
            return
        case int() if not -_INT64 <= value < _INT64:
            raise ValueError(f"{value} does not fit 64 bits")
        case float() if value in (float("inf"), float("-inf")):
            raise ValueError("a number is out of range")
        case str():
            value.encode()  # UnicodeEncodeError is a ValueError
        case dict():
            for key, item in value.items():
                key.encode()
                _check_storable(item, depth + 1)
        case list():
            for item in value:
                _check_storable(item, depth + 1)

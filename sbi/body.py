"""JSON in: read once, parsed strictly, validated by a schema, refused with the attribute's name."""

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, NoReturn

from aiohttp import hdrs, web
from marshmallow import Schema, ValidationError

from sbi.errors import InvalidParam, InvalidRequest, PayloadTooLarge, UnsupportedMediaType

READ_SECONDS = 20.0
"""How long a body may take that is no model: it is small, and at a byte a second it would take days."""

AS_SENT: dict[str, Any] = {"auto_decompress": False}
"""Of every server of ours: a body comes in the content coding that it was sent in, and `read_json` decodes its own.

aiohttp would decode uploads as well, whose offsets and digests count the encoded bytes (RFC 9530 2).
"""

_GZIP_OR_DEFLATE = zlib.MAX_WBITS + 32
_INT64 = 2**63
_INT64_DIGITS = 20
_MAX_DEPTH = 64
_MOST_NAMED = 100
"""Wrong attributes named in one answer, which would otherwise be many times as large as the request."""


async def read_json(request: web.Request, content_type: str) -> Any:
    """The request's body as plain JSON data."""
    if request.content_type != content_type:
        raise UnsupportedMediaType(f"the body must be {content_type}")
    return parse_json(_decoded(await read_body(request), request), "")


async def read_body(request: web.Request) -> bytes:
    """The request's body as it was sent, where that is no model."""
    try:
        async with reading():
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except web.RequestPayloadError as error:
        raise InvalidRequest("the body broke off") from error


async def read_binary(request: web.Request, most: int) -> bytes:
    """A body that is no JSON, as it was sent, of at most so many bytes; whoever stalls gets 408."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise UnsupportedMediaType("the body must have no content coding")
    content = bytearray()
    try:
        while True:
            async with reading():
                piece = await request.content.readany()
            content += piece
            if len(content) > most:
                raise _too_large()
            if not piece:
                return bytes(content)
    except web.RequestPayloadError as error:
        raise InvalidRequest("the body broke off") from error


def _decoded(raw: bytes, request: web.Request) -> bytes:
    """The body without its content coding, which must not make it larger than bodies may be."""
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if coding == "identity":
        return raw
    if coding not in ("gzip", "deflate"):
        raise UnsupportedMediaType("the content coding is neither gzip nor deflate")
    decoder = zlib.decompressobj(_GZIP_OR_DEFLATE)
    try:
        text = decoder.decompress(raw, request.client_max_size + 1)
    except zlib.error as error:
        raise InvalidRequest("the body is not in its Content-Encoding") from error
    if len(text) > request.client_max_size:
        raise _too_large()
    if not decoder.eof or decoder.unused_data:
        raise InvalidRequest("the body is not in its Content-Encoding")
    return text


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge("the body is larger than this server takes")


@asynccontextmanager
async def reading() -> AsyncIterator[None]:
    """The time for a body that is no model; whoever takes longer gets 408."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            yield
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error


def parse_json(raw: bytes | str, param: str) -> Any:
    """Strict JSON in UTF-8: no NaN, nothing the database cannot hold, bounded depth; errors name `param`."""
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        value = json.loads(text, parse_constant=_no_constant, parse_int=_integer)
        _check_storable(value, 0)
    except RecursionError as error:
        raise _refusal(param, "nested too deeply") from error
    except UnicodeError as error:  # its own words are those of Python's codecs
        raise _refusal(param, "not valid JSON: text that is not Unicode in UTF-8") from error
    except ValueError as error:
        raise _refusal(param, f"not valid JSON: {error}") from error
    return value


def _refusal(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest.of(param, reason) if param else InvalidRequest(f"body: {reason}")


def load(schema: Schema, data: Any, prefix: str = "") -> Any:
    """`data` validated by `schema`: unknown attributes dropped, every wrong one named as a JSON pointer."""
    try:
        return schema.load(data)
    except ValidationError as error:
        wrong = islice(_flatten(error.messages, prefix), _MOST_NAMED)
        params = [InvalidParam(pointer, reason) for pointer, reason in wrong]
        raise InvalidRequest.naming(params) from error


def _flatten(messages: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """marshmallow's nested messages as (JSON pointer, reason); errors of the whole object point at it."""
    if isinstance(messages, dict):
        for key, nested in messages.items():
            yield from _flatten(nested, pointer if key == "_schema" else f"{pointer}/{_escape(key)}")
    elif isinstance(messages, list):
        for message in messages:
            yield from _flatten(message, pointer)
    else:
        yield pointer, str(messages)


def _escape(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    # Counted first: Python takes long for thousands of digits, and refuses in its own words.
    value = int(digits) if len(digits) <= _INT64_DIGITS else _INT64
    if not -_INT64 <= value < _INT64:
        raise ValueError("an integer does not fit 64 bits")
    return value


def _check_storable(value: Any, depth: int) -> None:
    """Refuse what parses but cannot be stored: infinity, lone surrogates, names with NUL, bottomless nesting."""
    if depth > _MAX_DEPTH:
        raise RecursionError
    match value:
        case float() if math.isinf(value):
            raise ValueError("a number is out of range")
        case str():
            value.encode()
        case dict():
            for name, item in value.items():
                name.encode()
                if "\0" in name:
                    raise ValueError("a name has a NUL character")
                _check_storable(item, depth + 1)
        case list():
            for item in value:
                _check_storable(item, depth + 1)

"""Bodies and parameters: strict JSON in, plain data out, or an error that names what is wrong."""

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard
from aiohttp import web
from aiohttp.test_utils import TestServer
from marshmallow import Schema

from sbi.api import JSON, Api, Call, Operation, ok
from sbi.body import AS_SENT, load, parse_json
from sbi.errors import InvalidRequest
from sbi.mount import PUBLIC_URL, mount
from sbi.problems import problem_middleware
from schemas.base import Map, Number, Text, array_of, nested, texts
from schemas.base import Schema as WireSchema


class Inner(WireSchema):
    """An object in an object."""

    name = Text(required=True)


class Outer(WireSchema):
    """A bit of everything."""

    any_of = ("inner", "inners")

    inner = nested(Inner)
    inners = array_of(Inner)
    values = Map(Number())
    words = texts()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": [1, -2.5, true, null, "\\u00df"]} ', {"a": [1, -2.5, True, None, "\u00df"]}),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("-0", 0),
        ("1e308", 1e308),
        ('"\\ud83d\\udca5"', "\U0001f4a5"),
        ('"a\\u0000b"', "a\0b"),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("[" * 64 + "]" * 64, None),
    ],
)
def test_json(text: str, value: Any) -> None:
    """What JSON can say and a database can hold comes out as it is, from text and from its bytes in UTF-8."""
    assert parse_json(text, "") == parse_json(text.encode(), "")
    assert value is None or parse_json(text, "") == value


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ("[1,]", "not valid JSON"),
        ("01", "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
        ("NaN", "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("1e999", "a number is out of range"),
        ("9223372036854775808", "an integer does not fit 64 bits"),
        ("-9223372036854775809", "an integer does not fit 64 bits"),
        ("[" + "7" * 100_000 + "]", "an integer does not fit 64 bits"),
        ('"\\ud800"', "not Unicode"),
        ('{"\\udfff": 1}', "not Unicode"),
        (b'"\xff"', "not Unicode"),
        (b'"\xed\xa0\x80"', "not Unicode"),
        ('"a"'.encode("utf-16"), "not Unicode"),
        ('{"a": {"b\\u0000": 1}}', "a name has a NUL character"),
        ("[" * 66 + "]" * 66, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_refused(raw: str | bytes, reason: str) -> None:
    """What is not JSON, or could not be stored, is refused in words that fit into a line and say why."""
    with pytest.raises(InvalidRequest, match=r"^body: ") as caught:
        parse_json(raw, "")
    assert reason in caught.value.detail
    assert len(caught.value.detail) < 120
    assert caught.value.invalid_params == ()
    with pytest.raises(InvalidRequest) as caught:
        parse_json(raw, "filt-criteria")
    [param] = caught.value.invalid_params
    assert (param.param, reason in param.reason) == ("filt-criteria", True)


@pytest.mark.parametrize(
    ("data", "pointers"),
    [
        ([], [""]),
        (None, [""]),
        ({}, ["/inner", "/inners"]),
        ({"inner": {}}, ["/inner/name"]),
        ({"inner": 7}, ["/inner"]),
        ({"inners": []}, ["/inners"]),
        ({"inners": [{"name": "a"}, {"name": 1}, {}]}, ["/inners/1/name", "/inners/2/name"]),
        ({"inner": {"name": "a"}, "values": {"a/b~c": "1", "d": None}}, ["/values/a~1b~0c", "/values/d"]),
        ({"inner": {"name": "a"}, "words": {"0": "x"}, "values": []}, ["/values", "/words"]),
    ],
)
def test_wrong_attributes_are_named(data: Any, pointers: list[str]) -> None:
    """Every wrong or missing attribute is named once, as a JSON pointer (RFC 6901)."""
    with pytest.raises(InvalidRequest) as caught:
        load(Outer(), data)
    assert sorted(param.param for param in caught.value.invalid_params) == pointers
    assert all(pointer or "body" in caught.value.detail for pointer in pointers)
    assert all(param.reason for param in caught.value.invalid_params)


def test_the_place_of_a_parameter() -> None:
    """Pointers into a parameter begin with its name."""
    with pytest.raises(InvalidRequest) as caught:
        load(Outer(), {"inner": {}}, "filt-criteria")
    assert [param.param for param in caught.value.invalid_params] == ["filt-criteria/inner/name"]


def test_unknown_attributes_are_dropped() -> None:
    """What the schema does not know is not there afterwards, at no depth."""
    data = {"inner": {"name": "a", "_owner": "me"}, "more": 1}
    assert load(Outer(), data) == {"inner": {"name": "a"}}


def test_an_answer_does_not_grow_with_the_errors() -> None:
    """Of thousands of wrong attributes the first hundred are named."""
    with pytest.raises(InvalidRequest) as caught:
        load(Outer(), {"inner": {"name": "a"}, "words": [0] * 5000})
    assert len(caught.value.invalid_params) == 100
    assert len(caught.value.detail) < 2000


NAMED = b'{"inner":{"name":"a"}}'


@pytest.fixture
async def echo() -> AsyncIterator[TestServer]:
    """A server that answers with the body that a handler gets."""

    async def handler(call: Call) -> web.Response:
        return ok(call.body)

    operation = Operation(
        "POST", "/echo", "Echo", handler, body=Outer(), answers={200: Outer()}, capability=True
    )
    app = web.Application(middlewares=[problem_middleware], client_max_size=1000)
    app[PUBLIC_URL] = "https://aimle.example"
    mount(app, [Api("Echo", "AIMLE", "1.0.0", "/e/v1", (operation,))])
    server = TestServer(app)
    await server.start_server(**AS_SENT)
    yield server
    await server.close()


async def _exchange(server: TestServer, headers: str, body: bytes, *, leave: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"POST /e/v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode() + body)
    if leave:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_a_body_that_breaks_off(echo: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that goes in the middle of its body is no failure of the server: no error in the log."""
    await _exchange(echo, f"Content-Type: {JSON}\r\nContent-Length: 100\r\n", b'{"inner', leave=True)
    again = await _exchange(
        echo, f"Content-Type: {JSON}\r\nContent-Length: 24\r\n", b'{"inner": {"name": "a"}}'
    )
    assert again.startswith(b"HTTP/1.1 200")
    assert [record for record in caplog.records if record.name == "aimle.http"] == []


async def test_chunks(echo: TestServer) -> None:
    """A body of unknown length is read as well as one that announces it, and has the same limit."""
    headers = f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n"
    small = await _exchange(echo, headers, b'b\r\n{"inner": {\r\nc\r\n"name": "a"}\r\n1\r\n}\r\n0\r\n\r\n')
    assert small.startswith(b"HTTP/1.1 200"), small
    large = await _exchange(echo, headers, b'601\r\n"' + b"x" * 0x600 + b"\r\n0\r\n\r\n")
    assert large.startswith(b"HTTP/1.1 413"), large


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", gzip.compress(NAMED), 200),
        ("deflate", zlib.compress(NAMED), 200),
        ("GZIP", gzip.compress(NAMED), 200),
        ("identity", NAMED, 200),
        ("gzip", gzip.compress(NAMED)[:-9], 400),
        ("gzip", gzip.compress(NAMED) + b"more", 400),
        ("gzip", NAMED, 400),
        ("gzip", gzip.compress(NAMED + b" " * 1000), 413),
        ("deflate", zlib.compress(b" " * 1_000_000), 413),
        ("zstd", zstandard.compress(NAMED), 415),
        ("br", NAMED, 415),
    ],
)
async def test_a_content_coding(echo: TestServer, coding: str, body: bytes, status: int) -> None:
    """gzip and deflate are taken, no larger than other bodies, and whole; others are refused."""
    headers = f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\nContent-Encoding: {coding}\r\n"
    answer = await _exchange(echo, headers, body)
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer
    assert (NAMED in answer) == (status == 200)


@pytest.mark.parametrize("wrong", [Schema(), Outer()])
def test_a_schema_that_takes_everything_gets_an_object(wrong: Schema) -> None:
    """A body is an object, whatever the schema asks of it."""
    for data in (1, "x", [1], None, True):
        with pytest.raises(InvalidRequest):
            load(wrong, data)


async def test_no_log_of_a_refusal(echo: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    """What a caller does wrong is told to the caller and not to the log."""
    caplog.set_level(logging.DEBUG, "aimle")
    answer = await _exchange(echo, f"Content-Type: {JSON}\r\nContent-Length: 7\r\n", b'{"a": 1')
    assert answer.startswith(b"HTTP/1.1 400")
    assert [record for record in caplog.records if record.name.startswith("aimle")] == []

"""Errors on the wire: each class of the tree has its ProblemDetails, and what is unexpected says nothing."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from sbi import errors
from sbi.problems import CATALOGUE, Translate, problem_response, problems, response_of
from schemas.common import ProblemDetails

EXAMPLES: dict[type[errors.AimleError], tuple[errors.AimleError, int, dict[str, str]]] = {
    errors.InvalidRequest: (errors.InvalidRequest.of("/a", "is wrong"), 400, {}),
    errors.Unauthenticated: (errors.Unauthenticated("who?"), 401, {"WWW-Authenticate": "Bearer"}),
    errors.Forbidden: (errors.Forbidden("no"), 403, {}),
    errors.NotFound: (errors.NotFound("nothing"), 404, {}),
    errors.Conflict: (errors.Conflict("not now"), 409, {}),
    errors.PayloadTooLarge: (errors.PayloadTooLarge("too much"), 413, {}),
    errors.UnsupportedMediaType: (errors.UnsupportedMediaType("not this"), 415, {}),
    errors.RangeNotSatisfiable: (errors.RangeNotSatisfiable("go on at 7", 7), 416, {"Upload-Offset": "7"}),
    errors.NotSupported: (errors.NotSupported("not here"), 501, {}),
    errors.Unavailable: (errors.Unavailable("later", retry_after=9), 503, {"Retry-After": "9"}),
}


def _classes(kind: type[errors.AimleError]) -> set[type[errors.AimleError]]:
    return {kind}.union(*(_classes(child) for child in kind.__subclasses__()))


def test_every_error_is_in_the_catalogue() -> None:
    """Whatever class of the tree is raised, there is an entry for it, and none for anything else."""
    tree = {kind for kind in _classes(errors.AimleError) if kind.__module__ == errors.__name__}
    assert tree - {errors.AimleError} == CATALOGUE.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_problem_of_an_error(kind: type[errors.AimleError]) -> None:
    """Status, title, detail and cause, as ProblemDetails of TS 29.122, with the headers of that status."""
    error, status, headers = EXAMPLES[kind]
    response = response_of(error)
    body = json.loads(response.body)
    assert ProblemDetails().load(body) == body
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert (body["status"], body["detail"], body["cause"]) == (status, error.detail, CATALOGUE[kind].cause)
    assert body["title"]
    assert headers.items() <= dict(response.headers).items()
    wrong = [{"param": "/a", "reason": "is wrong"}] if status == 400 else None
    assert body.get("invalidParams") == wrong


def test_a_cause_of_its_own() -> None:
    """An error's own cause goes before that of its class."""
    body = json.loads(response_of(errors.NotFound("nothing", cause="TRAINING_NOT_FOUND")).body)
    assert body["cause"] == "TRAINING_NOT_FOUND"


def test_a_subclass_is_what_it_descends_from() -> None:
    """A more special error has the status of the nearest class in the catalogue."""

    class Gone(errors.NotFound):
        """Was there once."""

    assert response_of(Gone("gone")).status == 404


def test_nothing_that_is_empty() -> None:
    """Attributes without a value are left out: invalidParams has at least one item where it is there."""
    assert json.loads(problem_response(404).body) == {"title": "Not Found", "status": 404}
    assert "invalidParams" not in json.loads(response_of(errors.InvalidRequest("body: wrong")).body)


@asynccontextmanager
async def _raising(error: Callable[[], BaseException], translate: Translate) -> AsyncIterator[str]:
    async def handler(_: web.Request) -> web.StreamResponse:
        raise error()

    app = web.Application(middlewares=[problems(translate)])
    app.router.add_get("/things/{key}", handler, name="GetThing")
    async with TestServer(app) as server:
        yield str(server.make_url("/things/the-key?secret=hunter2"))


async def _get(url: str, **options: Any) -> tuple[int, dict[str, str], Any]:
    async with ClientSession() as session, session.get(url, allow_redirects=False, **options) as response:
        text = await response.text()
        known = response.content_type == "application/problem+json"
        return response.status, dict(response.headers), json.loads(text) if known else text


async def test_what_is_unexpected(caplog: pytest.LogCaptureFixture) -> None:
    """A 500 that says nothing about the reason; the log has it, without the address."""
    async with _raising(lambda: KeyError("internal name"), lambda _: None) as url:
        status, _, body = await _get(url)
    assert (status, body["status"], body["cause"]) == (500, 500, "SYSTEM_FAILURE")
    assert "internal name" not in json.dumps(body)
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "unexpected error in GET GetThing")
    assert record.exc_info is not None
    assert "KeyError: 'internal name'" in caplog.text
    assert "the-key" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_translation(caplog: pytest.LogCaptureFixture) -> None:
    """An error with a translation leaves as that, and is no news for the log; others stay unexpected."""

    def translate(error: BaseException) -> errors.AimleError | None:
        return errors.Unavailable("the database is away") if isinstance(error, OSError) else None

    async with _raising(lambda: ConnectionError("mongodb://user:pw@db"), translate) as url:
        status, headers, body = await _get(url)
    assert (status, headers["Retry-After"], body["detail"]) == (503, "5", "the database is away")
    assert caplog.records == []
    async with _raising(lambda: ValueError("x"), translate) as url:
        assert (await _get(url))[0] == 500


async def test_a_domain_error_is_not_translated() -> None:
    """What a procedure raises is told as it is."""
    async with _raising(lambda: errors.Conflict("not now"), lambda _: errors.NotFound("nothing")) as url:
        assert (await _get(url))[0] == 409


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (lambda: web.HTTPMethodNotAllowed("GET", ["PUT", "POST"]), 405, ("Allow", "POST,PUT")),
        (lambda: web.HTTPNotFound(text="<h1>internal</h1>"), 404, None),
        (lambda: web.HTTPRequestEntityTooLarge(10, 20), 413, None),
        (lambda: web.HTTPRequestTimeout(), 408, None),
        (lambda: web.HTTPServiceUnavailable(headers={"Location": "/later"}), 503, ("Location", "/later")),
    ],
)
async def test_refusals_of_the_http_library(
    error: Callable[[], web.HTTPException], status: int, header: tuple[str, str] | None
) -> None:
    """aiohttp's own refusals have our shape, and keep Allow and Location."""
    async with _raising(error, lambda _: None) as url:
        got, headers, body = await _get(url)
    assert (got, body["status"]) == (status, status)
    assert body.keys() == {"title", "status"}
    assert header is None or headers[header[0]] == header[1]


async def test_a_redirect_is_no_problem() -> None:
    """What is no error passes."""
    async with _raising(lambda: web.HTTPTemporaryRedirect("/elsewhere"), lambda _: None) as url:
        status, headers, _ = await _get(url)
    assert (status, headers["Location"]) == (307, "/elsewhere")

"""Errors as ProblemDetails (RFC 9457, TS 29.122 5.2.1.2.12): one catalogue, one shape, one middleware."""

import http
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from sbi import disk, errors

_log = logging.getLogger("aimle.http")


class Problem(NamedTuple):
    """What a class of errors looks like on the wire."""

    status: int
    cause: str


CATALOGUE: dict[type[errors.AimleError], Problem] = {
    errors.InvalidRequest: Problem(400, "INVALID_MSG_FORMAT"),
    errors.Unauthenticated: Problem(401, "UNAUTHENTICATED"),
    errors.Forbidden: Problem(403, "ACCESS_DENIED"),
    errors.NotFound: Problem(404, "RESOURCE_NOT_FOUND"),
    errors.Conflict: Problem(409, "CONFLICT"),
    errors.PayloadTooLarge: Problem(413, "PAYLOAD_TOO_LARGE"),
    errors.UnsupportedMediaType: Problem(415, "UNSUPPORTED_MEDIA_TYPE"),
    errors.RangeNotSatisfiable: Problem(416, "RANGE_NOT_SATISFIABLE"),
    errors.NotSupported: Problem(501, "NOT_IMPLEMENTED"),
    errors.Unavailable: Problem(503, "INSUFFICIENT_RESOURCES"),
}


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    cause: str | None = None,
    invalid_params: tuple[errors.InvalidParam, ...] = (),
    headers: dict[str, str] | None = None,
) -> web.Response:
    """A response with a ProblemDetails body; `invalid_params` only where there are some (minItems 1)."""
    body: dict[str, Any] = {"title": http.HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    if cause:
        body["cause"] = cause
    if invalid_params:
        body["invalidParams"] = [asdict(param) for param in invalid_params]
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        headers=headers,
        content_type="application/problem+json",
    )


def response_of(error: errors.AimleError) -> web.Response:
    """The one ProblemDetails of a domain error."""
    problem = next(CATALOGUE[kind] for kind in type(error).__mro__ if kind in CATALOGUE)
    headers: dict[str, str] = {}
    invalid: tuple[errors.InvalidParam, ...] = ()
    match error:
        case errors.InvalidRequest():
            invalid = error.invalid_params
        case errors.Unauthenticated():
            headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        case errors.RangeNotSatisfiable():
            headers["Upload-Offset"] = str(error.offset)
        case errors.Unavailable():
            headers[hdrs.RETRY_AFTER] = str(error.retry_after)
    return problem_response(
        problem.status,
        error.detail,
        cause=error.cause or problem.cause,
        invalid_params=invalid,
        headers=headers,
    )


Translate = Callable[[BaseException], errors.AimleError | None]
"""The caller's view of an error from elsewhere, e.g. a database driver's; None: there is none."""


def problems(translate: Translate = lambda _: None) -> Middleware:
    """The middleware that lets whatever is raised leave as one ProblemDetails.

    What neither is a domain error nor has a translation leaves as a 500 that says nothing, and is logged. So is a
    full disk, which leaves as a 503.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except errors.AimleError as error:
            return response_of(error)
        except web.HTTPException as error:
            return _of_http(error)
        except Exception as error:
            if known := translate(error):
                return response_of(known)
            if full := disk.translate(error):
                _log.error(
                    "no room on the disk for %s %s", request.method, request.match_info.route.name or "?"
                )
                return response_of(full)
            _log.exception("unexpected error in %s %s", request.method, request.match_info.route.name or "?")
            return problem_response(
                500, "The server failed to answer; the reason is in its log.", cause="SYSTEM_FAILURE"
            )

    return middleware


problem_middleware = problems()
"""The middleware without a translation."""


def _of_http(error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals (404, 405, 413, ...) in our shape."""
    if error.status < 400:
        raise error
    named = (hdrs.ALLOW, hdrs.LOCATION, hdrs.UPGRADE)
    kept = {str(name): error.headers[name] for name in named if name in error.headers}
    return problem_response(error.status, None, headers=kept)

"""The errors of the client SDK, the same tree on the VAL server side and on the UE side.

    AimleClientError
    ├── ServerUnavailable   nobody answers, or the server says come again later; `retry_after` in seconds
    │   └── NotTrusted      no TLS with a certificate that is trusted here: nothing that time heals
    ├── UnexpectedAnswer    the server answered something that its API does not have
    ├── RequestRefused      the server understood and said no; the ProblemDetails says why
    │   ├── Unauthorized    401: no valid token, or the client's credentials are wrong
    │   ├── Forbidden       403: a valid token that does not allow this, or no token for this scope
    │   ├── NotFound        404, 410: no such resource, or not this client's
    │   └── Conflict        409: the resource's state does not allow this now
    ├── NothingToTransfer   there is no task under way here that could be another client's
    ├── TransferFailed      model bytes could not be moved
    │   └── CorruptTransfer they arrived and are not what was sent
    └── InferenceFailed     a node of a pipeline refused the inputs

Everything the SDK raises on purpose is one of these; programming errors (TypeError, ValueError) are not
wrapped. Of an address, messages hold host and port at most, and never a token or a secret, so that each can be
logged as it is.
"""

import json
from collections.abc import Mapping
from typing import Any

from sbi.errors import InvalidParam


class AimleClientError(Exception):
    """Base of every error that the SDK raises."""


class ServerUnavailable(AimleClientError):
    """No answer after all attempts, or 429, 502, 503, 504; `retry_after` is what the server asked for."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotTrusted(ServerUnavailable):
    """The certificate is not trusted, or TLS cannot be agreed on; see `ca_file` where the CA is a private one."""


class UnexpectedAnswer(AimleClientError):
    """A status, a header or a body that the API does not have: not an AIMLE server, or a broken one."""


class RequestRefused(AimleClientError):
    """The server refused a request with a ProblemDetails (RFC 9457, TS 29.122 5.2.1.2.12).

    Attributes:
        status: HTTP status, 4xx or 5xx.
        cause: machine-readable reason, or None.
        detail: what is wrong, in words, or None.
        invalid_params: the wrong attributes: `param` is a JSON pointer or a parameter's name.
    """

    def __init__(
        self,
        status: int,
        *,
        cause: str | None = None,
        detail: str | None = None,
        invalid_params: tuple[InvalidParam, ...] = (),
    ) -> None:
        said = _said(detail, invalid_params) or "refused without a reason"
        super().__init__(f"{status} {cause}: {said}" if cause else f"{status}: {said}")
        self.status = status
        self.cause = cause
        self.detail = detail
        self.invalid_params = invalid_params


class Unauthorized(RequestRefused):
    """401: the token or the credentials are not accepted."""


class Forbidden(RequestRefused):
    """403: this client may not do this; also when the token endpoint does not grant the scope (`invalid_scope`)."""


class NotFound(RequestRefused):
    """404 or 410: the resource does not exist (any more) for this client."""


class Conflict(RequestRefused):
    """409: the resource's present state does not allow the request."""


class NothingToTransfer(AimleClientError):
    """No training is under way here that can be moved to another client (any more)."""


class TransferFailed(AimleClientError):
    """Model bytes could not be fetched or delivered."""


class CorruptTransfer(TransferFailed):
    """The bytes that arrived do not have the announced digest or length."""


class InferenceFailed(AimleClientError):
    """A node of a split operation pipeline could make nothing of a frame; the message says why."""


_MOST_NAMED = 3
_LONGEST_REASON = 200


def _said(detail: str | None, invalid_params: tuple[InvalidParam, ...]) -> str:
    """The detail, and of the wrong attributes the first few that it does not name already."""
    named = [f"{wrong.param}: {wrong.reason}" if wrong.reason else wrong.param for wrong in invalid_params]
    new = [text[:_LONGEST_REASON] for text in named if text not in (detail or "")]
    more = [f"and {len(new) - _MOST_NAMED} more"] if len(new) > _MOST_NAMED else []
    return "; ".join([*([detail] if detail else []), *new[:_MOST_NAMED], *more])


_BY_STATUS = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: NotFound, 409: Conflict}


def refusal(status: int, problem: Any) -> RequestRefused:
    """The error for an answer with this status and JSON body, which need not be a ProblemDetails."""
    kind = _BY_STATUS.get(status, RequestRefused)
    if not isinstance(problem, Mapping):
        return kind(status)
    listed = problem.get("invalidParams")
    return kind(
        status,
        cause=_text(problem.get("cause")),
        detail=_text(problem.get("detail")),
        invalid_params=tuple(
            InvalidParam(item["param"], str(item.get("reason", "")))
            for item in (listed if isinstance(listed, list) else ())
            if isinstance(item, Mapping) and isinstance(item.get("param"), str)
        ),
    )


def refusal_of(status: int, body: bytes) -> RequestRefused:
    """The error for an answer with this status and body, which need not be JSON."""
    try:
        return refusal(status, json.loads(body))
    except (ValueError, RecursionError):
        return refusal(status, None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

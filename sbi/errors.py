"""The errors a procedure raises; `problems` turns each into one ProblemDetails.

    AimleError
    ├── InvalidRequest        an attribute is wrong or missing; `invalid_params` names it
    ├── Unauthenticated       no valid token
    ├── Forbidden             a valid token that does not allow this
    ├── NotFound              no such resource, or not the caller's
    ├── Conflict              the resource's state does not allow this now
    ├── PayloadTooLarge       a body over the configured size
    ├── UnsupportedMediaType  a body of another type than the operation takes
    ├── RangeNotSatisfiable   a transfer that does not continue where the last one stopped
    ├── NotSupported          a part of the standard that this server does not have
    └── Unavailable           come again later; `retry_after` says when

A procedure raises and never returns an error. `detail` is shown to the caller, so it names attributes and
identifiers the caller sent and nothing internal; `cause` is the machine-readable reason (TS 29.122 5.2.6).
"""

from collections.abc import Iterable
from dataclasses import dataclass

_TOLD = 5
"""Wrong attributes that `detail` has room for; `invalid_params` has them all."""


@dataclass(frozen=True)
class InvalidParam:
    """One wrong attribute: `param` is a JSON pointer into the body, or a parameter's or header's name."""

    param: str
    reason: str


class AimleError(Exception):
    """Base of every error that is the caller's to know."""

    def __init__(self, detail: str, *, cause: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cause = cause


class InvalidRequest(AimleError):
    """The request contradicts its schema or its clause; `invalid_params` names what is wrong."""

    def __init__(self, detail: str, invalid_params: Iterable[InvalidParam] = (), *, cause: str | None = None):
        super().__init__(detail, cause=cause)
        self.invalid_params = tuple(invalid_params)

    @classmethod
    def naming(cls, params: Iterable[InvalidParam]) -> "InvalidRequest":
        """Several wrong attributes; the first few are in `detail` with their reasons."""
        wrong = list(params)
        told = "; ".join(f"{param.param or 'body'}: {param.reason}" for param in wrong[:_TOLD])
        return cls(told + ("; ..." if len(wrong) > _TOLD else ""), wrong)

    @classmethod
    def of(cls, param: str, reason: str, *, cause: str | None = None) -> "InvalidRequest":
        """The usual case: one attribute, one reason."""
        return cls(f"{param}: {reason}", [InvalidParam(param, reason)], cause=cause)


class Unauthenticated(AimleError):
    """There is no bearer token, or it is not valid here."""


class Forbidden(AimleError):
    """The caller is known and may not do this."""


class NotFound(AimleError):
    """The resource does not exist for this caller."""


class Conflict(AimleError):
    """The resource's present state does not allow the request."""


class PayloadTooLarge(AimleError):
    """The body is larger than this server takes."""


class UnsupportedMediaType(AimleError):
    """The body's content type is not one that the operation takes."""


class RangeNotSatisfiable(AimleError):
    """The offset of a partial transfer is not the one this side is at, which is `offset` bytes."""

    def __init__(self, detail: str, offset: int) -> None:
        super().__init__(detail)
        self.offset = offset


class NotSupported(AimleError):
    """The standard has this, this server does not."""


class Unavailable(AimleError):
    """Something this request needs is not there now; `retry_after` is in seconds."""

    def __init__(self, detail: str, *, retry_after: int = 5, cause: str | None = None) -> None:
        super().__init__(detail, cause=cause)
        self.retry_after = retry_after

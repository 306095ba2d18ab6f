"""Who calls: the seam between the route tables and whatever checks tokens."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Caller:
    """The subject that a request is made for.

    Attributes:
        subject: the token's `sub`; owner of what this request creates.
        scopes: the API base names the token allows.
        vendor: the token's `vendor` claim, compared with a model's allowed vendors (TS 23.482 8.11.3).
    """

    subject: str
    scopes: frozenset[str] = frozenset()
    vendor: str | None = None


class Authenticator(Protocol):
    """Turns an Authorization header into a caller."""

    async def authenticate(self, authorization: str | None, scope: str) -> Caller:
        """The caller of a request to the API with this scope.

        Raises:
            Unauthenticated: no token, or not a valid one.
            Forbidden: a valid token without the scope.
        """
        ...


class OpenAccess:
    """No authentication at all: every request is made for the same subject. For an explicit flag only."""

    async def authenticate(self, authorization: str | None, scope: str) -> Caller:
        """Everybody is `anonymous` and may do everything."""
        return Caller("anonymous", frozenset({scope}))

"""One request and its answer, and what every answer of every operation has to be."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from support.documents import PROBLEM, NotAsDocumented, Operation

Json = Any

_SHOWN = 2000
"""Characters of a body that a report shows."""


@dataclass(frozen=True, repr=False)
class Exchange:
    """A request as it was sent, and what came back.

    Attributes:
        operation: None for a request that no document has, such as one with a wrong method.
        sent, sent_type: the request's body as text, and its media type.
        with_token: a token was sent, which a report must not show.
        text: the answer's body.
    """

    operation: Operation | None
    method: str
    url: str
    sent: str
    status: int
    headers: Mapping[str, str]
    text: str
    sent_type: str | None
    with_token: bool

    @property
    def body(self) -> Json:
        """The answer's JSON."""
        return json.loads(self.text)

    @property
    def content_type(self) -> str:
        """Media type of the answer, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def location(self) -> str:
        """The last part of the Location's path: the new resource's identifier."""
        return urlsplit(self.headers["Location"]).path.rstrip("/").rpartition("/")[2]

    def __str__(self) -> str:
        """As a report shows it."""
        answer = {name: value for name, value in self.headers.items() if name in _TELLING}
        sender = "with a token" if self.with_token else "without a token"
        lines = [f"{self.method} {self.url} {self.sent_type or ''} ({sender})", self.sent[:_SHOWN]]
        lines += [f"-> {self.status} {answer}", self.text[:_SHOWN]]
        return "\n".join(line for line in lines if line)

    __repr__ = __str__

    def check(self) -> None:
        """Raise NotAsDocumented for an answer that nobody may give."""
        try:
            body = self.body if self.text else None
        except ValueError as error:
            raise NotAsDocumented(f"the body of {self.status} is not JSON") from error
        if self.status >= 400:
            self._check_problem(body)
        if self.operation is not None:
            self.operation.check_answer(self.status, self.content_type, body)
        for status, header, rule in _HEADERS:
            if self.status == status:
                rule(self, header)

    def _check_problem(self, body: Json) -> None:
        """TS 29.122 5.2.6: what an error says, it says as ProblemDetails."""
        if body is None:
            return
        if self.content_type != PROBLEM:
            raise NotAsDocumented(
                f"the error comes as {self.content_type or 'no media type'}, not as {PROBLEM}"
            )
        if not isinstance(body, dict):
            raise NotAsDocumented("the ProblemDetails is not an object")
        if body.get("status", self.status) != self.status:
            raise NotAsDocumented(f"the ProblemDetails says {body['status']}, the answer {self.status}")


_TELLING = ("Content-Type", "Location", "Allow", "WWW-Authenticate", "Retry-After")


def _there(exchange: Exchange, header: str) -> None:
    if not exchange.headers.get(header):
        raise NotAsDocumented(f"{exchange.status} has no {header}")


def _of_a_resource(exchange: Exchange, header: str) -> None:
    """The Location of what a POST made is {collection}/{identifier}."""
    _there(exchange, header)
    path = urlsplit(exchange.headers[header]).path
    collection = urlsplit(exchange.url).path
    if not re.search(rf"{re.escape(collection)}/[^/]+/?$", path):
        raise NotAsDocumented(f"Location {path} is no resource of {collection}")


def _a_time(exchange: Exchange, header: str) -> None:
    """Retry-After may be left out; it is seconds or a date (RFC 9110 10.2.3)."""
    value = exchange.headers.get(header)
    if value is not None and not value.isdigit():
        try:
            parsedate_to_datetime(value)
        except ValueError as error:
            raise NotAsDocumented(f"Retry-After is {value}") from error


_HEADERS = (
    (201, "Location", _of_a_resource),
    (307, "Location", _there),
    (308, "Location", _there),
    (401, "WWW-Authenticate", _there),
    (405, "Allow", _there),
    (429, "Retry-After", _a_time),
    (503, "Retry-After", _a_time),
)

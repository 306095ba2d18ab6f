"""Frames of the notification websocket (TS 29.122 5.2.5.4): HTTP messages in binary WebSocket messages.

A frame is a sequence number, headers and a body, much as in HTTP. A notification is framed as the clause says. Whoever
is called behind a WebSocket also gets other requests than notifications: those have a line more, `AIMLE-Request`, with
method and path, and may carry an Authorization header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

SEQUENCE = "3GPP-WS-Notif-Seq"
REQUEST = "AIMLE-Request"
NUMBERS = 1 << 32
"""Sequence numbers there are: four bytes of them."""

METHODS = frozenset({hdrs.METH_GET, hdrs.METH_POST, hdrs.METH_PUT, hdrs.METH_PATCH, hdrs.METH_DELETE})
"""What can be asked of somebody behind a WebSocket."""

_CRLF = "\r\n"


class FrameError(ValueError):
    """The bytes are no frame."""


@dataclass(frozen=True)
class Request:
    """A request to somebody behind a WebSocket; as it is by default, without a path, it is a notification.

    Attributes:
        path: below the address under which the other side is known, with the query; empty or from a slash on.
    """

    method: str = hdrs.METH_POST
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Answer:
    """What the other side says to it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


def request_frame(number: int, request: Request) -> bytes:
    """The frame of a request; `number` is below `NUMBERS`."""
    notification = (request.method, request.path) == (hdrs.METH_POST, "")
    own = {} if notification else {REQUEST: f"{request.method} {request.path}"}
    return _frame(number, "", own | dict(request.headers), request.body)


def answer_frame(number: int, answer: Answer) -> bytes:
    """The frame that answers the request with this number."""
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unknown"
    return _frame(number, f"{answer.status} {phrase}", dict(answer.headers), answer.body)


def read_request(frame: bytes) -> tuple[int, Request]:
    """A frame's number and request.

    Raises:
        FrameError: it is not the frame of a request.
    """
    number, lines, body = _parts(frame)
    headers = _headers(lines)
    method, path = hdrs.METH_POST, ""
    if REQUEST in headers:
        method, _, path = headers.pop(REQUEST).partition(" ")
    if method not in METHODS or not (path == "" or path.startswith("/")):
        raise FrameError("no such request")
    return number, Request(method, path, CIMultiDictProxy(headers), body)


def read_answer(frame: bytes) -> tuple[int, Answer]:
    """A frame's number and answer.

    Raises:
        FrameError: it is not the frame of an answer.
    """
    number, lines, body = _parts(frame)
    status = lines[0].partition(" ")[0] if lines else ""
    if not (status.isascii() and status.isdigit() and 200 <= int(status[:4]) < 600):
        raise FrameError("no status")
    return number, Answer(int(status), CIMultiDictProxy(_headers(lines[1:])), body)


def _frame(number: int, status: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{SEQUENCE}: {number}", *([status] if status else [])]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
    if body or not status:
        lines.append(f"{hdrs.CONTENT_LENGTH}: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise FrameError("a line break in a header")
    return (_CRLF.join(lines) + 2 * _CRLF).encode("utf-8", "surrogateescape") + body


def _parts(frame: bytes) -> tuple[int, list[str], bytes]:
    """Sequence number, the other lines of the head, body."""
    head, found, body = frame.partition(b"\r\n\r\n")
    first, *lines = head.decode("utf-8", "surrogateescape").split(_CRLF)
    name, _, number = first.partition(":")
    number = number.strip()
    if not found or name.lower() != SEQUENCE.lower() or not (number.isascii() and number.isdigit()):
        raise FrameError("no sequence number")
    if len(number) > 10 or int(number) >= NUMBERS:
        raise FrameError("no sequence number of four bytes")
    return int(number), lines, body


def _headers(lines: list[str]) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise FrameError("a line that is no header")
        headers[name] = value.strip()
    return headers

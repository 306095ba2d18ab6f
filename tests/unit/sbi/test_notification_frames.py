"""Frames of the notification websocket: what TS 29.122 5.2.5.4 says byte by byte, and what is no frame."""

import pytest

from sbi.notification_frames import (
    Answer,
    FrameError,
    Request,
    answer_frame,
    read_answer,
    read_request,
    request_frame,
)

JSON = {"Content-Type": "application/json"}


def test_a_notification() -> None:
    """Sequence number, headers, an empty line and the body: nothing but what the clause has."""
    frame = request_frame(17, Request(headers=JSON, body=b'{"a":1}'))
    assert frame == (
        b"3GPP-WS-Notif-Seq: 17\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}'
    )
    number, request = read_request(frame)
    assert (number, request.method, request.path, request.body) == (17, "POST", "", b'{"a":1}')
    assert request.headers["content-type"] == "application/json"


def test_an_acknowledgement() -> None:
    """The number of the notification, then the status line; no headers where there is no body."""
    assert answer_frame(17, Answer(204)) == b"3GPP-WS-Notif-Seq: 17\r\n204 No Content\r\n\r\n"
    number, answer = read_answer(b"3GPP-WS-Notif-Seq: 17\r\n204 No Content\r\n\r\n")
    assert (number, answer.status, answer.body) == (17, 204, b"")


def test_an_answer_with_a_body() -> None:
    """An error comes with its headers and its ProblemDetails."""
    frame = answer_frame(4294967295, Answer(503, {"Retry-After": "5"}, b"{}"))
    number, answer = read_answer(frame)
    assert (number, answer.status, answer.headers["retry-after"], answer.body) == (
        4294967295,
        503,
        "5",
        b"{}",
    )


def test_another_request_than_a_notification() -> None:
    """Method and path are in a line of our own; token, query and an empty body survive."""
    sent = Request("DELETE", "/aimlec-hfl-trng/v1/subscriptions/s?x=%20", {"Authorization": "Bearer t"})
    number, request = read_request(request_frame(0, sent))
    assert (number, request.method, request.path) == (0, sent.method, sent.path)
    assert (request.headers["Authorization"], request.body) == ("Bearer t", b"")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"3GPP-WS-Notif-Seq: 1\r\n",
        b"Content-Type: a\r\n\r\n{}",
        b"3GPP-WS-Notif-Seq: one\r\n\r\n",
        b"3GPP-WS-Notif-Seq: 4294967296\r\n\r\n",
        b"3GPP-WS-Notif-Seq: -1\r\n\r\n",
        b"3GPP-WS-Notif-Seq: \xc2\xb2\r\n\r\n",
        b"3GPP-WS-Notif-Seq: 1\r\nno header\r\n\r\n",
        b"3GPP-WS-Notif-Seq: 1\r\nAIMLE-Request: TRACE /x\r\n\r\n",
        b"3GPP-WS-Notif-Seq: 1\r\nAIMLE-Request: POST @elsewhere/x\r\n\r\n",
        b"3GPP-WS-Notif-Seq: 1\r\nAIMLE-Request: POST http://elsewhere/x\r\n\r\n",
    ],
)
def test_what_is_no_request(frame: bytes) -> None:
    """Whatever else comes is refused, above all a path that leads to another host."""
    with pytest.raises(FrameError):
        read_request(frame)


@pytest.mark.parametrize("line", ["", "OK", "99 Low", "600 High", "2000 Long", "\u00b200 Two"])
def test_what_is_no_answer(line: str) -> None:
    """Without a status there is no answer."""
    with pytest.raises(FrameError):
        read_answer(f"3GPP-WS-Notif-Seq: 1\r\n{line}\r\n\r\n".encode())


def test_a_header_cannot_begin_a_line() -> None:
    """Nobody adds headers by a value with a line break in it."""
    with pytest.raises(FrameError):
        request_frame(1, Request(headers={"Authorization": "a\r\nContent-Length: 0"}))

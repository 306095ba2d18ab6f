"""What the SDK's errors say, and what of a round's failure leaves the device."""

import pytest

from aimle_client.errors import RequestRefused, refusal, refusal_of
from aimle_client.runtime.report import MOST_TOLD, told
from sbi.errors import InvalidParam


def _wrong(*named: str) -> tuple[InvalidParam, ...]:
    return tuple(InvalidParam(name, f"{name[1:]} is wrong") for name in named)


def test_a_refusal_names_what_is_wrong() -> None:
    """Reasons of the attributes follow the detail, the first three of them."""
    assert str(RequestRefused(400, cause="X", detail="2 wrong", invalid_params=_wrong("/a", "/b"))) == (
        "400 X: 2 wrong; /a: a is wrong; /b: b is wrong"
    )
    many = RequestRefused(400, invalid_params=_wrong("/a", "/b", "/c", "/d", "/e"))
    assert str(many) == "400: /a: a is wrong; /b: b is wrong; /c: c is wrong; and 2 more"


def test_a_refusal_says_nothing_twice() -> None:
    """What the detail says already is not repeated, and a long reason is cut."""
    assert (
        str(RequestRefused(400, detail="/a: a is wrong", invalid_params=_wrong("/a")))
        == "400: /a: a is wrong"
    )
    assert len(str(RequestRefused(400, invalid_params=(InvalidParam("/a", "x" * 9999),)))) < 300


def test_a_refusal_without_a_reason_says_so() -> None:
    """Also where the body is no ProblemDetails, or no JSON at all."""
    for error in (refusal(500, [1]), refusal_of(500, b"<html>"), refusal_of(500, b"[" * 100_000)):
        assert str(error) == "500: refused without a reason"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "ValueError: bad value in column 3 (is learningRate too high?)",
            "ValueError: bad value in column 3 (is learningRate too high?)",
        ),
        ("No such file: '/home/me/my data/x.npz'", "No such file: ..."),
        ('cannot open "C:\\data\\me.csv", sorry', "cannot open ..., sorry"),
        ("read ~/x.csv\n  and data/y.csv failed", "read ... and ... failed"),
        ("see https://user:pw@store.example/key", "see ..."),
    ],
)
def test_the_server_is_told_no_paths(reason: str, expected: str) -> None:
    """A reason leaves the device in one line, and without what may be a path or an address."""
    assert told(reason) == expected


def test_the_server_is_told_no_long_stories() -> None:
    """A reason is cut."""
    assert told("x" * 999) == "x" * MOST_TOLD

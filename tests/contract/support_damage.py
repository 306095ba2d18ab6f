"""Strategies that damage valid bodies: what attackers, bugs and other versions send, and smaller when it fails."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Json = Any
Spot = tuple[Any, str | int]

HUGE: tuple[Json, ...] = (
    "x" * 5000,
    "\U0001f4a5" * 500,
    list(range(500)),
    {f"name {number}": number for number in range(200)},
    [{"a": []}] * 200,
)
NUMBERS: tuple[Json, ...] = (
    *(0, -1, 1, 2**31, -(2**31) - 1, 2**32, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 10**30),
    *(0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf")),
)
TEXTS: tuple[str, ...] = (
    *("", " ", "\0", "\u202e", "\ud800", "\ufeff", "é", "e\u0301", "\r\nX-Header: 1", "NO_SUCH_VALUE", "a.b"),
    *("$where", "$set", "__proto__", "_id", "../../etc/passwd", "%00", "*", "'; --", "{}", "null", "-1"),
    *("2030-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:60Z", "2030-01-01", "25:00:00Z", "P1D"),
    *("http://", "http://[::1", "http://127.0.0.1:0/", "http://127.0.0.1:99999/", "file:///etc/passwd", "//x"),
    *("http://127.0.0.1:1/", "http://2130706433/", "http://a@127.0.0.1/", "http://127.0.0.1/\n", "http://ü.test/"),
)  # fmt: skip
OBJECTS: tuple[Json, ...] = (
    *({}, {"\0": 1}, {"$where": "1"}, {"a.b": {"$ne": 1}}, {"": ""}, {"_id": 1}),
    *([None], [[[[]]]]),
)
ANY: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
VALUES: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.text(),
    st.sampled_from(OBJECTS),
    st.sampled_from(HUGE),
    st.integers(1, 300).map(lambda depth: _nested(depth)),
    ANY,
)
OTHER_NUMBERS = st.sampled_from(NUMBERS) | st.integers(0, 100)
OTHER_TEXTS = st.sampled_from(TEXTS) | st.text()
COUNTS = st.integers(1, 4)
NAMES = st.sampled_from(("\0", "$set", "a.b", "_owner", "_id", "", "\ud800", "constructor")) | st.text()


@st.composite
def damaged(draw: st.DrawFn, body: Json) -> Json:
    """A copy of `body` with one to four changes, at places and of kinds that are drawn."""
    changed = copy.deepcopy(body)
    for _ in range(draw(COUNTS)):
        spots = list(_spots(changed))
        if not spots:
            break
        draw(ANY_KIND)(draw, spots)
    return changed


def _replace(draw: st.DrawFn, spots: list[Spot]) -> None:
    """Another value, of whatever type."""
    holder, key = draw(st.sampled_from(spots))
    holder[key] = copy.deepcopy(draw(VALUES))


def _vary(draw: st.DrawFn, spots: list[Spot]) -> None:
    """Another value of the same type, which gets past the checks of types."""
    holder, key = draw(st.sampled_from(spots))
    match holder[key]:
        case bool():
            holder[key] = not holder[key]
        case int() | float():
            holder[key] = draw(OTHER_NUMBERS)
        case str():
            holder[key] = draw(OTHER_TEXTS)
        case list() | dict():
            holder[key] = type(holder[key])()


def _retype(draw: st.DrawFn, spots: list[Spot]) -> None:
    """The same value, wrapped or spelled as another type."""
    holder, key = draw(st.sampled_from(spots))
    value = holder[key]
    holder[key] = draw(st.sampled_from(([value], {"value": value}, str(value), bool(value), [[value]])))


def _drop(draw: st.DrawFn, spots: list[Spot]) -> None:
    holder, key = draw(st.sampled_from(spots))
    del holder[key]


def _duplicate(draw: st.DrawFn, spots: list[Spot]) -> None:
    """The same again: in an array, as an attribute of another name, or in itself."""
    holder, key = draw(st.sampled_from(spots))
    value = copy.deepcopy(holder[key])
    if isinstance(holder, list):
        holder.extend([value] * draw(st.sampled_from((1, 3, 300))))
    elif isinstance(holder[key], dict):
        holder[key][key] = value
    else:
        holder[draw(NAMES)] = value


def _rename(draw: st.DrawFn, spots: list[Spot]) -> None:
    holder, key = draw(st.sampled_from(spots))
    if isinstance(holder, dict):
        holder[draw(NAMES)] = holder.pop(key)


def _swap(draw: st.DrawFn, spots: list[Spot]) -> None:
    """Two values, each where the other belongs."""
    (one, first), (other, second) = draw(st.sampled_from(spots)), draw(st.sampled_from(spots))
    one_value, other_value = copy.deepcopy(one[first]), copy.deepcopy(other[second])
    one[first], other[second] = other_value, one_value


KINDS = (_vary, _vary, _vary, _replace, _retype, _drop, _duplicate, _rename, _swap)
ANY_KIND = st.sampled_from(KINDS)


def _spots(value: Json) -> Iterator[Spot]:
    """Each (object or array, name or position in it) of a body."""
    if not isinstance(value, dict | list):
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        yield from _spots(item)


def _nested(depth: int) -> Json:
    value: Json = {}
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value

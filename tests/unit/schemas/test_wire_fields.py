"""A value of the wire passes as it is or is refused; nothing is converted."""

from typing import Any

import pytest
from marshmallow import ValidationError, fields

from schemas.base import Array, Choice, Flag, Integer, Map, Number, Text
from schemas.common import (
    Bytes,
    DateTime,
    Fqdn,
    Ipv4Addr,
    Ipv6Addr,
    NetworkIpv4Addr,
    NetworkIpv6Addr,
    SupportedFeatures,
    TimeOfDay,
    Uinteger,
    UintegerText,
    Uri,
)
from schemas.location import Latitude

ACCEPTED = [
    (Text(), ""),
    (Integer(), -(2**63)),
    (Uinteger(), 0),
    (Number(), 5),
    (Number(), -0.25),
    (Latitude(), -90),
    (Flag(), False),
    (Choice("A", "B"), "A"),
    (DateTime(), "2026-11-22T10:00:00Z"),
    (DateTime(), "2026-11-22T10:00:00.123456789+05:30"),
    (TimeOfDay(), "08:30:00"),
    (TimeOfDay(), "08:30:00.5-03:00"),
    (Uri(), "http://[2001:db8::1]:8080/a/b?c=%20#d"),
    (Uri(), "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"),
    (Ipv4Addr(), "192.0.2.1"),
    (Ipv6Addr(), "2001:db8::1"),
    (NetworkIpv4Addr(), "198.51.100.1"),
    (NetworkIpv6Addr(), "2001:db8:85a3::8a2e:370:7334"),
    (NetworkIpv6Addr(), "::"),
    (NetworkIpv6Addr(), "1:0:0:4:5:6:7:8"),
    (Fqdn(), "ue-1.example.com"),
    (Bytes(), "aGVsbG8="),
    (SupportedFeatures(), ""),
    (Array(Text(), min_items=0), []),
    (Array(Uinteger(), max_items=2), [1, 2]),
    (Map(Number(), min_properties=1), {"accuracy": 0.5}),
]

REFUSED = [
    (Text(), 5),
    (Text(), None),
    (Integer(), True),
    (Integer(), "5"),
    (Integer(), 5.0),
    (Uinteger(), -1),
    (Number(), True),
    (Number(), "0.5"),
    (Number(), float("nan")),
    (Number(), float("inf")),
    (Latitude(), 90.001),
    (Flag(), 1),
    (Flag(), "true"),
    (Choice("A", "B"), "C"),
    (DateTime(), "2026-11-22"),
    (DateTime(), "2026-11-22T10:00:00"),
    (DateTime(), "2026-11-22 10:00:00Z"),
    (DateTime(), "2026-02-30T10:00:00Z"),
    (DateTime(), "2026-11-22T10:00:00Z\n"),
    (DateTime(), "0001-01-01T00:00:00+01:00"),
    (TimeOfDay(), "24:00:00"),
    (TimeOfDay(), "8:30"),
    (Uri(), "/relative"),
    (Uri(), "http://a b"),
    (Uri(), "http://m.example.com/modèle"),
    (Uri(), "http://m.example.com/{id}"),
    (Uri(), "http:"),
    (Uri(), "http://[::1"),
    (Uri(), "http://example.com/\r\nX-Injected: 1"),
    (Ipv4Addr(), "192.0.2.256"),
    (Ipv6Addr(), "fe80::1%eth0"),
    (NetworkIpv4Addr(), "198.51.100.256"),
    (NetworkIpv4Addr(), "198.51.100.01"),
    (NetworkIpv6Addr(), "2001:DB8::1"),
    (NetworkIpv6Addr(), "2001:0db8::1"),
    (NetworkIpv6Addr(), "::ffff:192.0.2.1"),
    (NetworkIpv6Addr(), "1:2:3:4:5:6:7"),
    (Fqdn(), "-a.example.com"),
    (Fqdn(), "example.com\n"),
    (Fqdn(), "com"),
    (Bytes(), "no base64!"),
    (SupportedFeatures(), "0xG"),
    (Array(Text()), []),
    (Array(Text()), "text"),
    (Array(Text()), {"a": "b"}),
    (Array(Uinteger(), max_items=2), [1, 2, 3]),
    (Map(Number(), min_properties=1), {}),
    (Map(Number()), {"accuracy": "high"}),
]


def _named(value: Any) -> str:
    return type(value).__name__ if isinstance(value, fields.Field) else ascii(value)


@pytest.mark.parametrize(("field", "value"), ACCEPTED, ids=_named)
def test_valid_value_passes_unchanged(field: fields.Field[Any], value: Any) -> None:
    """A valid value is returned as it came, with the type it came with."""
    loaded = field.deserialize(value)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=_named)
def test_invalid_value_is_refused(field: fields.Field[Any], value: Any) -> None:
    """A value of another JSON type, or outside the type's pattern, bounds or number of items, is refused."""
    with pytest.raises(ValidationError):
        field.deserialize(value)


def test_query_integer_is_read_from_its_digits() -> None:
    """A query parameter is text: its digits become the number, and anything else is refused."""
    assert UintegerText().deserialize("12") == 12
    for wrong in ("", "-1", "1.0", "one", "²"):
        with pytest.raises(ValidationError):
            UintegerText().deserialize(wrong)

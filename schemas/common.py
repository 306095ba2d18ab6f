"""Types that many APIs share (TS 29.122, TS 29.571, TS 29.549, TS 29.558).

Patterns and bounds are those of the types' OpenAPI documents. Where such a document has none although its
text has a rule (a URI, a time of day, an address), the rule is checked here and the document left as it is.
"""

import base64
import re
from datetime import UTC, datetime, time
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urlsplit

from marshmallow import ValidationError

from schemas.base import Array, Integer, Number, OpenEnum, Schema, Text, array_of

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_IPV6_GROUP = re.compile(r"0?|[1-9a-f][0-9a-f]{0,3}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:(?![\"<>\\^`{|}])[!-~])+")


class DateTime(Text):
    """A moment (RFC 3339), always with its offset from UTC."""

    format = "date-time"

    def check(self, text: str) -> None:
        """Refuse what is no date, has no offset, or lies outside the years 1 to 9999 in UTC."""
        try:
            if not _DATE_TIME.fullmatch(text):
                raise ValueError
            datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise ValidationError("not an RFC 3339 date-time with its offset from UTC") from error


class TimeOfDay(Text):
    """A time of day (RFC 3339 `partial-time` or `full-time`), `08:30:00` or `08:30:00+01:00`."""

    def check(self, text: str) -> None:
        """Refuse what is no time of day."""
        try:
            if not _TIME_OF_DAY.fullmatch(text):
                raise ValueError
            time.fromisoformat(text)
        except ValueError as error:
            raise ValidationError("not an RFC 3339 time of day") from error


class Uri(Text):
    """An absolute URI (RFC 3986)."""

    def check(self, text: str) -> None:
        """Refuse a relative reference and characters that a URI cannot have."""
        try:
            if not _URI.fullmatch(text):
                raise ValueError
            urlsplit(text)
        except ValueError as error:
            raise ValidationError("not an absolute URI") from error


class Ipv4Addr(Text):
    """An IPv4 address in dotted decimal."""

    def check(self, text: str) -> None:
        """Refuse anything else."""
        try:
            IPv4Address(text)
        except AddressValueError as error:
            raise ValidationError("not an IPv4 address") from error


class Ipv6Addr(Text):
    """An IPv6 address (RFC 5952), without a zone."""

    def check(self, text: str) -> None:
        """Refuse anything else."""
        try:
            if IPv6Address(text).scope_id is not None:
                raise AddressValueError("a zone means nothing elsewhere")
        except AddressValueError as error:
            raise ValidationError("not an IPv6 address") from error


class NetworkIpv4Addr(Text):
    """An IPv4 address, TS 29.571's type, whose document has the pattern."""

    pattern = (
        r"^(([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\.){3}"
        r"([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$"
    )


class NetworkIpv6Addr(Ipv6Addr):
    """An IPv6 address, TS 29.571's type: as RFC 5952 writes it, with no IPv4 address at its end."""

    pattern = r"^((([^:]+:){7}([^:]+))|((([^:]+:)*[^:]+)?::(([^:]+:)*[^:]+)?))$"

    def check(self, text: str) -> None:
        """Refuse anything else; the document's other pattern is this one of each group."""
        super().check(text)
        if not all(_IPV6_GROUP.fullmatch(group) for group in text.split(":")):
            raise ValidationError("not in lower case without leading zeros")


class UndeclaredBytes(Text):
    """Base64 text, TS 29.122's type, whose document leaves the format out."""

    def check(self, text: str) -> None:
        """Refuse what is not base64."""
        try:
            base64.b64decode(text, validate=True)
        except ValueError as error:
            raise ValidationError("not base64") from error


class Bytes(UndeclaredBytes):
    """Base64 text, TS 29.571's type."""

    format = "byte"


class Fqdn(Text):
    """A fully qualified domain name."""

    pattern = r"^([0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?\.)+[A-Za-z]{2,63}\.?$"
    length = (4, 253)


class SupportedFeatures(Text):
    """Feature numbers as bits of a hexadecimal number (TS 29.571 5.2.2)."""

    pattern = r"^[A-Fa-f0-9]*$"


NO_FEATURES = "0"
"""SupportedFeatures of an answer by who supports none of those that the request names (TS 29.500 6.6.2)."""


class Uinteger(Integer):
    """An integer from 0 up."""

    bounds = (0, None)


class UintegerText(Uinteger):
    """A `Uinteger` in a query string: loads its decimal digits as an int."""

    def _validated(self, value: object) -> int:
        if not (isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value)):
            raise self.make_error("invalid", input=value)
        return int(value)


class Uint32(Integer):
    """An integer of 32 bits from 0 up."""

    bounds = (0, 2**32 - 1)


class DurationSec(Integer):
    """Seconds, TS 29.122's type."""

    bounds = (0, None)


class Volume(Integer):
    """Bytes."""

    bounds = (0, None)
    format = "int64"


class Percentage(Integer):
    """0 to 100."""

    bounds = (0, 100)


class Port(Integer):
    """A port of an IP address."""

    bounds = (0, 65535)


class DayOfWeek(Integer):
    """1 is Monday, 7 is Sunday."""

    bounds = (1, 7)


class Float(Number):
    """A number in single precision."""

    format = "float"


class AimleClientId(Text):
    """Identity of an AIMLE client (TS 29.482, ContextTransfer)."""


class AdaeAnalyticsId(OpenEnum):
    """What an ADAE analytics is about (TS 29.549, SS_AADRF_DataManagement)."""

    values = (
        "VAL_SERVER_PERF",
        "VAL_SESSION_PERF",
        "SLICE_PERFORMANCE_ANALYTICS",
        "UE_TO_UE_PERFORMANCE_ANALYTICS",
        "LOCATION_ACCURACY_PREDICTION",
        "LOCATION_ACCURACY_SUSTAINABILITY",
        "SERVICE_API_ANALYTICS",
        "SLICE_USAGE_PATTERN_ANALYTICS",
        "EDGE_LOAD_ANALYTICS",
        "GROUP_ROUTE",
        "GROUP_MEMBER_DEVIATION",
        "TARGET_WITH_OTHER_UES",
        "ANY_UES_IN_LOC",
        "APP_MEMBER_CAPABILITY_ANALYTICS",
        "UE_RAT_CONNECTIVITY_ANALYTICS",
        "SERVER_TO_SERVER_PERFORMANCE",
    )


class InvalidParam(Schema):
    """An attribute that made a request fail, and why (TS 29.122 5.2.1.2.13)."""

    param = Text(required=True)
    reason = Text()


class ProblemDetails(Schema):
    """The body of every error answer (RFC 9457, TS 29.122 5.2.1.2.12)."""

    type = Uri()
    title = Text()
    status = Integer()
    detail = Text()
    instance = Uri()
    cause = Text()
    invalidParams = array_of(InvalidParam)
    supportedFeatures = SupportedFeatures()


class TimeWindow(Schema):
    """A span of time (TS 29.122 5.2.1.2.4)."""

    startTime = DateTime(required=True)
    stopTime = DateTime(required=True)


class ScheduledCommunicationTime(Schema):
    """Days of the week and hours of those days (TS 29.122, CpProvisioning; TS 29.571 has the same)."""

    daysOfWeek = Array(DayOfWeek(), max_items=6)
    timeOfDayStart = TimeOfDay()
    timeOfDayEnd = TimeOfDay()


class EndPoint(Schema):
    """Where something is reached: exactly one kind of address (TS 29.558, Eees_EASRegistration)."""

    one_of = ("uri", "fqdn", "ipv4Addrs", "ipv6Addrs")

    fqdn = Fqdn()
    ipv4Addrs = Array(Ipv4Addr())
    ipv6Addrs = Array(Ipv6Addr())
    uri = Uri()


class ValUeAddrInfo(Schema):
    """Where a VAL UE is reached: one address (TS 29.549, SS_NetworkResourceAdaptation)."""

    one_of = ("valUeIpv4Addr", "valUeIpv6Addr")

    valUeIpv4Addr = NetworkIpv4Addr()
    valUeIpv6Addr = NetworkIpv6Addr()
    port = Port()


class ValTargetUe(Schema):
    """A VAL user, or a VAL UE (TS 29.549, SS_UserProfileRetrieval)."""

    one_of = ("valUserId", "valUeId")

    valUserId = Text()
    valUeId = Text()

"""What the VAL server's helpers refuse before anything is sent: misspelt values and numbers out of range.

The standard's enumerations may grow, and a server takes values that it does not know as ones that nobody has. So
a typing mistake would find nothing and say nothing. A value that is not listed here can be put into the wire dict
that a helper returns, or be given where a wire dict is taken.
"""

import math
from collections.abc import Sequence

from schemas.base import OpenEnum


def known(argument: str, value: str | None, enumeration: type[OpenEnum]) -> str | None:
    """`value`, or None as it is.

    Raises:
        ValueError: it is none of the enumeration's.
    """
    if value is not None and value not in enumeration.values:
        raise ValueError(f"{argument}: {value!r} is none of {', '.join(enumeration.values)}")
    return value


def all_known(argument: str, values: Sequence[str], enumeration: type[OpenEnum]) -> list[str] | None:
    """The values as a list, None for no values; ValueError as `known`, TypeError for a text instead of a list."""
    listed = texts(argument, values)
    for value in listed or ():
        known(argument, value, enumeration)
    return listed


def texts(argument: str, values: Sequence[str]) -> list[str] | None:
    """The values as a list, None for no values, since the wire has no empty lists.

    Raises:
        TypeError: one text, which is a sequence of letters.
    """
    if isinstance(values, str):
        raise TypeError(f"{argument}: a list is needed, as in [{values!r}]")
    return list(values) or None


def within(argument: str, value: float | None, least: float, most: float = math.inf) -> None:
    """Raises ValueError for a number outside of `least` to `most`; None passes."""
    if value is not None and not (least <= value <= most and math.isfinite(value)):
        allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{argument}: {value!r} is not {allowed}")

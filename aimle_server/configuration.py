"""Settings from a TOML file, the environment and the command line, driven by the type hints of dataclasses.

A setting is declared once, as a field of a table's dataclass: `port: int = setting(8080, "TCP port")`. That
field makes the TOML key `server.port`, the variable `AIMLE_SERVER_PORT` and the flag `--server-port`, and
says which type and range they take. Errors name the key and never show a value, which may be a secret.
"""

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

PREFIX = "AIMLE_"
CONFIG_VARIABLE = "AIMLE_CONFIG"
"""Names the TOML file where no `--config` does; the only variable with the prefix that is not a setting."""

_TRUE = {"true": True, "yes": True, "on": True, "1": True}
_FALSE = {"false": False, "no": False, "off": False, "0": False}
_BOOLEANS = _TRUE | _FALSE


class SettingsError(Exception):
    """The settings are wrong; the message names the one to change and fits on a line."""


def setting(
    default: T,
    doc: str,
    *,
    secret: bool = False,
    flag: bool = True,
    at_least: float | None = None,
    at_most: float | None = None,
) -> T:
    """A field of a settings table.

    Args:
        default: its value where no source has one.
        doc: what it means, with its unit; shown by `--help`.
        secret: left out of `repr`.
        flag: whether the command line has it; not for a secret, because a machine's users see all flags.
        at_least: smallest number allowed.
        at_most: largest number allowed.
    """
    metadata = {"doc": doc, "flag": flag, "at_least": at_least, "at_most": at_most}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Key:
    """A setting as the sources name it.

    Attributes:
        table: its TOML table, `server`.
        name: its name in the table, `port`.
        type: its type hint: str, int, float, bool, a tuple of strings or a Literal.
        default: its value where no source has one.
        metadata: the arguments of `setting`.
    """

    table: str
    name: str
    type: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def dotted(self) -> str:
        """`server.port`."""
        return f"{self.table}.{self.name}"

    @property
    def variable(self) -> str:
        """`AIMLE_SERVER_PORT`."""
        return f"{PREFIX}{self.table}_{self.name}".upper()

    @property
    def flag(self) -> str:
        """`--server-port`."""
        return f"--{self.table}-{self.name}".replace("_", "-")


def keys_of(root: type) -> dict[str, Key]:
    """Every setting below the dataclass `root`, whose fields are the tables, by its dotted name."""
    found = [
        Key(table, item.name, get_type_hints(kind)[item.name], item.default, item.metadata)
        for table, kind in get_type_hints(root).items()
        if is_dataclass(kind)
        for item in fields(kind)
    ]
    return {key.dotted: key for key in found}


def build(root: type[T], *sources: Mapping[str, Any]) -> T:
    """`root` with the values of the sources (by dotted name); a later source wins over an earlier one."""
    tables: dict[str, dict[str, Any]] = {}
    for source in sources:
        for dotted, value in source.items():
            table, name = dotted.split(".")
            tables.setdefault(table, {})[name] = value
    kinds = get_type_hints(root)
    return root(**{table: kinds[table](**values) for table, values in tables.items()})


def from_file(root: type, path: Path) -> dict[str, Any]:
    """The settings of a TOML file, by dotted name."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    known = keys_of(root)
    tables = {key.table for key in known.values()}
    values = {}
    for table, content in document.items():
        if table not in tables or not isinstance(content, dict):
            raise _unknown(f"[{table}]", [f"[{name}]" for name in tables], f"{path}: unknown table")
        for name, value in content.items():
            key = known.get(f"{table}.{name}")
            if key is None:
                near = [other.dotted for other in known.values() if other.table == table]
                raise _unknown(f"{table}.{name}", near, f"{path}: unknown setting")
            values[key.dotted] = _checked(key, f"{path}: {key.dotted}", value)
    return values


def from_environment(root: type, environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings among environment variables, by dotted name; a stray one with the prefix is refused."""
    known = {key.variable: key for key in keys_of(root).values()}
    values = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if variable not in known:
            raise _unknown(variable, known, "unknown environment variable")
        key = known[variable]
        values[key.dotted] = parse(key, variable, text)
    return values


def parse(key: Key, where: str, text: str) -> Any:
    """A setting's value from text, as variables and flags carry it; lists are comma-separated."""
    try:
        return _checked(key, where, _convert(key.type, text.strip()))
    except (ValueError, KeyError):
        raise SettingsError(f"{where}: expected {_describe(key.type)}") from None


def _convert(kind: Any, text: str) -> Any:
    if kind is bool:
        return _BOOLEANS[text.lower()]
    if kind in (int, float):
        return kind(text)
    if get_origin(kind) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _checked(key: Key, where: str, value: Any) -> Any:
    """The value in its field's type, or an error that names the key, the type and the range."""
    if get_origin(key.type) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingsError(f"{where}: expected {_describe(key.type)}")
        return tuple(value)
    if get_origin(key.type) is Literal:
        allowed = value in get_args(key.type)
    else:
        # bool is an int to Python, and TOML writes a whole number of seconds without a point.
        kinds = (int, float) if key.type is float else (key.type,)
        allowed = type(value) in kinds
    if not allowed:
        raise SettingsError(f"{where}: expected {_describe(key.type)}")
    if key.type in (int, float):
        _check_range(key, where, value)
    return key.type(value) if key.type is float else value


def _check_range(key: Key, where: str, value: float) -> None:
    low, high = key.metadata["at_least"], key.metadata["at_most"]
    if not math.isfinite(value):
        raise SettingsError(f"{where}: must be finite")
    if low is not None and value < low:
        raise SettingsError(f"{where}: must be at least {low}")
    if high is not None and value > high:
        raise SettingsError(f"{where}: must be at most {high}")


def _describe(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list of strings"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(item) for item in get_args(kind))
    return {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}[kind]


def _unknown(name: str, known: Iterable[str], what: str) -> SettingsError:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known ones: {', '.join(names)}"
    return SettingsError(f"{what} {name}; {hint}")

"""What one of our OpenAPI documents says otherwise than the official one of 3GPP.

References are followed on both sides, so names of shared components may differ; descriptions, summaries and
tags are not compared. `specs/DEVIATIONS.md` has a row for each difference that is meant.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Json = Any

ABSENT, PRESENT = "absent", "present"
KEYWORDS = (
    *("type", "format", "pattern", "enum", "default", "nullable", "required"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
)
METHODS = {"get", "put", "post", "patch", "delete", "head", "options"}


@dataclass(frozen=True)
class Difference:
    """Where two documents differ (like a JSON pointer, unescaped), and what each has there."""

    where: str
    ours: str
    official: str


@dataclass(frozen=True)
class Deviation:
    """A row of the table: the difference it explains; `where` may end in `*`."""

    document: str
    where: str
    ours: str
    official: str
    why: str

    def explains(self, document: str, difference: Difference) -> bool:
        """Whether this row is about that difference."""
        same_values = (self.ours, self.official) == (difference.ours, difference.official)
        return document == self.document and same_values and fnmatchcase(difference.where, self.where)


def deviations(path: Path) -> list[Deviation]:
    """The rows of the table in `path`, a Markdown file; a row begins with a name in backticks."""
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [Deviation(*map(_cell, re.split(r"(?<!\\)\|", row)[1:-1])) for row in rows]


def _cell(text: str) -> str:
    return text.strip().strip("`").replace("\\|", "|")


@dataclass
class _Pair:
    """Two documents that are walked together."""

    ours: Json
    official: Json
    seen: set[tuple[str, str]] = field(default_factory=set)

    def documents(self) -> Iterator[Difference]:
        yield from _values("/info/version", self.ours["info"]["version"], self.official["info"]["version"])
        for name in ("servers", "security"):
            yield from _values(f"/{name}", _without_text(self.ours[name]), _without_text(self.official[name]))
        schemes = [_without_text(one["components"]["securitySchemes"]) for one in (self.ours, self.official)]
        yield from _values("/components/securitySchemes", *schemes)
        ours, official = _operations(self.ours), _operations(self.official)
        yield from _only("/paths", ours, official)
        for where, mine, theirs in _both("/paths", ours, official):
            yield from self.operation(where, mine, theirs)

    def operation(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        yield from _values(f"{where}/operationId", ours.get("operationId"), official.get("operationId"))
        mine, theirs = _parameters(ours), _parameters(official)
        yield from _only(f"{where}/parameters", mine, theirs)
        for place, one, other in _both(f"{where}/parameters", mine, theirs):
            yield from self.parameter(place, one, other)
        yield from self.body(f"{where}/requestBody", ours.get("requestBody"), official.get("requestBody"))
        yield from self.answers(f"{where}/responses", ours["responses"], official["responses"])
        yield from self.callbacks(
            f"{where}/callbacks", ours.get("callbacks", {}), official.get("callbacks", {})
        )

    def parameter(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        for name in ("required", "style", "explode"):
            yield from _values(f"{where}/{name}", ours[name], official[name])
        yield from self.contents(where, ours, official)
        if "schema" in ours and "schema" in official:
            yield from self.schema(f"{where}/schema", ours["schema"], official["schema"])

    def body(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        if ours is None or official is None:
            yield from _values(where, _presence(ours), _presence(official))
            return
        yield from _values(f"{where}/required", ours.get("required", False), official.get("required", False))
        yield from self.contents(where, ours, official)

    def contents(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        mine, theirs = ours.get("content", {}), official.get("content", {})
        yield from _only(f"{where}/content", mine, theirs)
        for place, one, other in _both(f"{where}/content", mine, theirs):
            yield from self.schema(f"{place}/schema", one["schema"], other["schema"])

    def answers(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        yield from _only(where, ours, official)
        for place, one, other in _both(where, ours, official):
            if place.endswith("/default"):
                continue  # TS 29.122 gives it no body; ours is a ProblemDetails like the others
            one, other = _answer(one, self.ours), _answer(other, self.official)
            yield from self.contents(place, one, other)
            mine, theirs = one.get("headers", {}), other.get("headers", {})
            yield from _only(f"{place}/headers", mine, theirs)
            for header, left, right in _both(f"{place}/headers", mine, theirs):
                yield from _values(f"{header}/required", left.get("required"), right.get("required"))

    def callbacks(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        yield from _only(where, ours, official)
        for place, one, other in _both(where, ours, official):
            mine, theirs = _operations({"paths": one}), _operations({"paths": other})
            yield from _only(place, mine, theirs)
            for request, left, right in _both(place, mine, theirs):
                yield from self.operation(request, left, right)

    def schema(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        """Both schemas' rules, then those of what they are made of; a pair of components only once."""
        if "$ref" in ours:
            where = ours["$ref"].removeprefix("#")
            visit = (ours["$ref"], official.get("$ref") or json.dumps(official, sort_keys=True))
            if visit in self.seen:
                return
            self.seen.add(visit)
        mine, theirs = _resolved(ours, self.ours), _resolved(official, self.official)
        for keyword in KEYWORDS:
            yield from _values(f"{where}/{keyword}", _rule(mine, keyword), _rule(theirs, keyword))
        yield from self.members(
            f"{where}/properties", mine.get("properties", {}), theirs.get("properties", {})
        )
        for keyword in ("items", "additionalProperties"):
            one, other = mine.get(keyword), theirs.get(keyword)
            if isinstance(one, dict) and isinstance(other, dict):
                yield from self.schema(f"{where}/{keyword}", one, other)
            else:
                yield from _values(f"{where}/{keyword}", _presence(one), _presence(other))
        for keyword in ("anyOf", "oneOf"):
            one, other = _alternatives(mine, keyword), _alternatives(theirs, keyword)
            yield from self.members(f"{where}/{keyword}", one, other)

    def members(self, where: str, ours: Json, official: Json) -> Iterator[Difference]:
        yield from _only(where, ours, official)
        for place, one, other in _both(where, ours, official):
            yield from self.schema(place, one, other)


def differences(ours: Json, official: Json) -> list[Difference]:
    """All differences of two OpenAPI documents, given as JSON data."""
    return list(dict.fromkeys(_Pair(ours, official).documents()))


def schema_differences(name: str, ours: Json, theirs: str, official: Json) -> list[Difference]:
    """The differences of one component, which may have another name in the official document."""
    references = [{"$ref": f"#/components/schemas/{one}"} for one in (name, theirs)]
    return list(_Pair(ours, official).schema("", *references))


def _operations(document: Json) -> dict[str, Json]:
    """Operations by method and path, each with the parameters of its path."""
    return {
        f"{method.upper()} {path}": {
            **operation,
            "parameters": item.get("parameters", []) + operation.get("parameters", []),
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def _parameters(operation: Json) -> dict[str, Json]:
    """Parameters by place and name, what OpenAPI leaves to a default written out."""
    found = {}
    for parameter in operation["parameters"]:
        style = parameter.get("style", "form" if parameter["in"] == "query" else "simple")
        defaults = {"required": False, "style": style, "explode": style == "form"}
        if parameter.get("schema", {}).get("type") != "array":
            parameter = {**parameter, "explode": True}
        found[f"{parameter['in']}:{parameter['name']}"] = defaults | parameter
    return found


def _answer(answer: Json, document: Json) -> Json:
    name = answer.get("$ref", "").rpartition("/")[2]
    return document["components"]["responses"][name] if name else answer


def _resolved(schema: Json, document: Json) -> Json:
    """The schema that a reference stands for; `allOf` of objects as one object."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    merged = {name: value for name, value in schema.items() if name != "allOf"}
    for part in schema.get("allOf", []):
        resolved = _resolved(part, document)
        merged = {
            **merged,
            **resolved,
            "required": merged.get("required", []) + resolved.get("required", []),
            "properties": merged.get("properties", {}) | resolved.get("properties", {}),
        }
    return merged


def _alternatives(schema: Json, keyword: str) -> dict[str, Json]:
    """The branches of `anyOf` or `oneOf`: required-rules by their names, others by their position."""
    return {
        "+".join(sorted(branch["required"])) if set(branch) == {"required"} else str(position): branch
        for position, branch in enumerate(schema.get(keyword, []))
    }


def _rule(schema: Json, keyword: str) -> Json:
    """The value of a keyword, in one of the ways in which the same can be written."""
    value = schema.get(keyword)
    if isinstance(value, list):
        return sorted(value) or None
    return None if (keyword, value) in (("minItems", 0), ("minLength", 0)) else value


def _both(where: str, ours: Json, official: Json) -> Iterator[tuple[str, Json, Json]]:
    for name in ours:
        if name in official:
            yield f"{where}/{name}", ours[name], official[name]


def _only(where: str, ours: Json, official: Json) -> Iterator[Difference]:
    for name in [*ours, *official]:
        if (name in ours) != (name in official):
            yield from _values(f"{where}/{name}", _presence(ours.get(name)), _presence(official.get(name)))


def _values(where: str, ours: Json, official: Json) -> Iterator[Difference]:
    if ours != official:
        yield Difference(where, _text(ours), _text(official))


def _presence(value: Json) -> str:
    return ABSENT if value is None else PRESENT


def _text(value: Json) -> str:
    if value is None:
        return ABSENT
    return value if isinstance(value, str) else json.dumps(value)


def _without_text(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _without_text(item) for name, item in value.items() if name != "description"}
    if isinstance(value, list):
        return [_without_text(item) for item in value]
    return value

"""Bodies made wrong on purpose: every place of a schema, and one wrong value for it."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from marshmallow import Schema as AnySchema
from marshmallow import fields

from schemas.base import Array, Flag, Integer, Map, Number, Text, Union

Json = Any
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where an attribute is.

    Attributes:
        path: member names and positions from the body's root.
        field: what the schema says of it; that of a union's members carries no types.
        given: what else has to be in the body for the schema to look there (the `shape` of an area).
    """

    path: Path
    field: fields.Field[Any]
    given: tuple[tuple[Path, Json], ...] = ()

    @property
    def pointer(self) -> str:
        """The JSON pointer."""
        return "".join(f"/{part}" for part in self.path)

    def is_in(self, body: Json) -> bool:
        """Whether `body` has this attribute."""
        here = body
        for part in self.path:
            if isinstance(here, dict) != isinstance(part, str) or not (here if part == 0 else part in here):
                return False
            here = here[part]
        return True

    def set(self, body: Json, value: Json) -> Json:
        """A copy of `body` with this value here; objects and arrays on the way are made where there are none."""
        changed = copy.deepcopy(body)
        for path, known in (*self.given, (self.path, value)):
            _parent(changed, path)[path[-1]] = copy.deepcopy(known)
        return changed

    def remove(self, body: Json) -> Json:
        """A copy of `body` in which the object is there, and this attribute is not."""
        changed = self.set(body, None)
        del _parent(changed, self.path)[self.path[-1]]
        return changed


def _parent(body: Json, path: Path) -> Any:
    """The object or array that holds `path`."""
    here = body
    for part, following in pairwise(path):
        empty: Json = [None] if isinstance(following, int) else {}
        there = here[part] if isinstance(part, int) else here.get(part)
        if type(there) is not type(empty) or there == []:
            here[part] = there = empty
        here = there
    return here


def places(schema: AnySchema, path: Path = (), seen: set[tuple[type, str]] | None = None) -> Iterator[Place]:
    """Each attribute of a schema and of the types in it; a type that occurs several times is looked at once."""
    seen = set() if seen is None else seen
    for name, field in schema.fields.items():
        if (type(schema), name) not in seen:
            seen.add((type(schema), name))
            yield from _of_field(Place((*path, name), field), seen)


def _of_field(place: Place, seen: set[tuple[type, str]]) -> Iterator[Place]:
    yield place
    field = place.field
    if isinstance(field, fields.Nested):
        yield from (_within(place, inner) for inner in places(field.schema, place.path, seen))
    elif isinstance(field, Array):
        yield from _of_field(Place((*place.path, 0), field.inner, place.given), seen)
    elif isinstance(field, Map) and field.value_field is not None:
        yield from _of_field(Place((*place.path, "some name"), field.value_field, place.given), seen)
    elif isinstance(field, Union):
        for kind, schema in field.types.items():
            told = (((*place.path, field.discriminator), kind),) if field.discriminator else ()
            for inner in places(schema(), place.path, seen):
                yield Place(inner.path, inner.field, (*place.given, *told, *inner.given))


def _within(outer: Place, inner: Place) -> Place:
    return Place(inner.path, inner.field, (*outer.given, *inner.given))


def wrong_value(field: fields.Field[Any]) -> Json:
    """A value of another type, the one that is most easily taken for a right one."""
    kinds: tuple[tuple[type, Json], ...] = (
        (Text, 7), (Integer, "7"), (Number, "0.5"), (Flag, "true"), (Array, {"0": "x"})
    )  # fmt: skip
    return next((value for kind, value in kinds if isinstance(field, kind)), ["not an object"])

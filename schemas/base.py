"""What the wire schemas are made of: strict fields, open enumerations, required-rules, JSON merge patch.

The fields check a value and return it as it came: a date stays the text it was. Each carries what its type
has in the OpenAPI document (pattern, bounds, format), where `sbi.openapi` finds it.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import marshmallow
from marshmallow import EXCLUDE, ValidationError, fields, post_load, pre_load, validate, validates_schema

Json = dict[str, Any]


class Schema(marshmallow.Schema):
    """An object of the wire.

    Attributes:
        any_of: names of which at least one must be there.
        one_of: names of which exactly one must be there.
    """

    any_of: ClassVar[tuple[str, ...]] = ()
    one_of: ClassVar[tuple[str, ...]] = ()

    class Meta:
        """Unknown attributes are ignored (TS 29.500 6.6.2)."""

        unknown = EXCLUDE

    @validates_schema(pass_original=True)
    def _check_rules(self, data: Json, original: Mapping[str, Any], **_: Any) -> None:
        """Of what was sent: an attribute that a patch removes with null is one that it names."""
        if self.any_of and not any(name in original for name in self.any_of):
            raise _rule_error("at least one", self.any_of)
        if self.one_of and sum(name in original for name in self.one_of) != 1:
            raise _rule_error("exactly one", self.one_of)


def _rule_error(how_many: str, names: tuple[str, ...]) -> ValidationError:
    reason = f"{how_many} of {', '.join(names)} is needed"
    return ValidationError({name: [reason] for name in names})


class PatchSchema(Schema):
    """A JSON merge patch (RFC 7396): `null`, at any depth, is kept and means removal.

    Attributes that are present must be whole and valid; what the patch makes of the resource is for the
    resource's own schema to check: `Resource().load(merge_patch(resource, patch))`.
    """

    @pre_load
    def _hide_nulls(self, data: Any, **_: Any) -> Any:
        return _without_nulls(data)

    @post_load(pass_original=True)
    def _restore_nulls(self, data: Json, original: Json, **_: Any) -> Json:
        known = {name: value for name, value in original.items() if name in self.fields}
        return _with_nulls(data, known)


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(item) for name, item in value.items() if item is not None}


def _with_nulls(data: Json, original: Json) -> Json:
    nulls = {name: None for name, value in original.items() if value is None}
    nested = {
        name: _with_nulls(data[name], value)
        for name, value in original.items()
        if isinstance(value, dict) and isinstance(data.get(name), dict)
    }
    return data | nested | nulls


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` applied (RFC 7396 2); neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


class _Whole(validate.Regexp):
    """A pattern that the whole text must match; a newline at the end is not overlooked."""

    def __call__(self, value: Any) -> Any:
        if self.regex.fullmatch(value) is None:
            raise ValidationError(f"does not match {self.regex.pattern!s}")
        return value


class Text(fields.String):
    """A string; a subclass says what is in it.

    Attributes:
        pattern: regular expression of the whole text.
        length: smallest and largest number of characters.
        format: the OpenAPI format.
    """

    pattern: ClassVar[str | None] = None
    length: ClassVar[tuple[int | None, int | None] | None] = None
    format: ClassVar[str | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.format:
            self.metadata = {"format": self.format, **self.metadata}
        if self.pattern:
            self.validators.append(_Whole(self.pattern, re.ASCII))
        if self.length:
            self.validators.append(validate.Length(*self.length))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        self.check(text)
        return text

    def check(self, text: str) -> None:
        """Refuse a text that the document's pattern would let pass; raises ValidationError."""


class OpenEnum(Text):
    """An enumeration that may grow: `values` are the known ones, any other text is valid as well."""

    values: ClassVar[tuple[str, ...]] = ()


class Choice(Text):
    """A closed enumeration; for our own APIs, nearly all of the standard's are open."""

    def __init__(self, *values: str, **kwargs: Any) -> None:
        super().__init__(validate=validate.OneOf(values), **kwargs)


class Integer(fields.Integer):
    """A JSON integer: no text, no fraction, no boolean.

    Attributes:
        bounds: smallest and largest value, both included.
        format: the OpenAPI format.
    """

    bounds: ClassVar[tuple[int | None, int | None]] = (None, None)
    format: ClassVar[str | None] = None

    def __init__(self, minimum: int | None = None, maximum: int | None = None, **kwargs: Any) -> None:
        super().__init__(strict=True, **kwargs)
        _constrain(self, (minimum, maximum) if (minimum, maximum) != (None, None) else self.bounds)

    def _validated(self, value: Any) -> int:
        if type(value) is not int:
            raise self.make_error("invalid", input=value)
        return value


class Number(fields.Float):
    """A finite JSON number; an integer stays one.

    Attributes:
        bounds: smallest and largest value, both included.
        format: the OpenAPI format.
    """

    bounds: ClassVar[tuple[float | None, float | None]] = (None, None)
    format: ClassVar[str | None] = None

    def __init__(self, minimum: float | None = None, maximum: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _constrain(self, (minimum, maximum) if (minimum, maximum) != (None, None) else self.bounds)

    def _validated(self, value: Any) -> float:
        if type(value) not in (int, float):
            raise self.make_error("invalid", input=value)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.make_error("special")
        return value  # type: ignore[no-any-return]


def _constrain(field: Integer | Number, bounds: tuple[float | None, float | None]) -> None:
    if field.format:
        field.metadata = {"format": field.format, **field.metadata}
    if bounds != (None, None):
        field.validators.append(validate.Range(*bounds))


class Flag(fields.Boolean):
    """A JSON boolean: `true` or `false`, not a text or number that looks like one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Array(fields.List[Any]):
    """A JSON array; `min_items` is 1 in nearly all of the standard's."""

    def __init__(
        self, inner: fields.Field[Any], *, min_items: int = 1, max_items: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(inner, **kwargs)
        if min_items or max_items:
            self.validators.append(validate.Length(min_items or None, max_items))


class Map(fields.Dict):
    """A JSON object whose names are the caller's own; it has at least `min_properties` of them."""

    def __init__(self, values: fields.Field[Any], *, min_properties: int = 0, **kwargs: Any) -> None:
        super().__init__(keys=Text(), values=values, **kwargs)
        self.min_properties = min_properties
        if min_properties:
            self.validators.append(validate.Length(min=min_properties))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            # marshmallow puts a "value" between, where the pointer to a wrong attribute has nothing.
            raise ValidationError({name: both["value"] for name, both in error.messages.items()}) from error


class Union(fields.Field[Json]):
    """An object of one of several types, told apart by the value of one attribute, or by a `type_of` of its own.

    Attributes:
        discriminator: the attribute's name; empty: there is none.
        types: its values and the schemas they stand for; without a discriminator, names of the types.
    """

    discriminator: ClassVar[str] = ""
    types: ClassVar[Mapping[str, type[Schema]]]

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Json:
        if not isinstance(value, dict):
            raise ValidationError("Not a valid mapping type.")
        loaded: Json = _instance(self.type_of(value)).load(value)
        return loaded

    def type_of(self, value: Json) -> type[Schema]:
        """The type that an object is of, or is meant to be; raises ValidationError where that cannot be told."""
        kind = value.get(self.discriminator)
        if not isinstance(kind, str) or kind not in self.types:
            raise ValidationError({self.discriminator: [f"must be one of {', '.join(self.types)}"]})
        return self.types[kind]


@cache
def _instance(schema: type[Schema]) -> Schema:
    """One schema object for all loads: to make one costs more than to load a small object."""
    return schema()


def nested(schema: type[Schema], **kwargs: Any) -> fields.Nested:
    """An object of another type."""
    return fields.Nested(schema, **kwargs)


def array_of(schema: type[Schema], **kwargs: Any) -> Array:
    """An array of objects of another type; takes what `Array` takes."""
    return Array(nested(schema), **kwargs)


def texts(**kwargs: Any) -> Array:
    """An array of strings; takes what `Array` takes."""
    return Array(Text(), **kwargs)

"""Dataclasses from JSON: a check of the types of their fields, and the conversion."""

from __future__ import annotations

import dataclasses
import functools
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_types(kind: type, fields: dict[str, Any]) -> None:
    """Check that values from JSON have the types that a dataclass declares for its fields.

    `true` does not count as a number, and 1.0 does not count as an integer.

    Args:
        kind: The dataclass.
        fields: Field name -> value from JSON. A field that has a default may be missing.

    Raises:
        ValueError: A field is missing, unknown or of another type. The message gives the name of
            the field, and for a wrong type also the value and the expected type.
    """
    hints = type_hints(kind)
    for name in fields:
        if name not in hints:
            raise ValueError(f"{name} is unknown")
    for field in dataclasses.fields(kind):
        if field.name in fields:
            value = fields[field.name]
            if not is_of_type(value, hints[field.name]):
                raise ValueError(f"{field.name} is {value!r:.80}, expected {field.type}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{field.name} is missing")


@functools.cache
def type_hints(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of a dataclass: field name -> type.

    Python compiles the annotations at each call of `get_type_hints`, so the result is cached.
    """
    return get_type_hints(kind)


def is_of_type(value: Any, kind: Any) -> bool:
    """Return True if a value from JSON has the type `kind`.

    A tuple is expected as a JSON list, and a dataclass as a JSON object.

    Raises:
        ValueError: A field of an expected dataclass is missing, unknown or of another type.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(is_of_type(value, one) for one in args)
    if origin is tuple and args[-1] is not Ellipsis:
        return (
            isinstance(value, list)
            and len(value) == len(args)
            and all(map(is_of_type, value, args))
        )
    if origin in (list, tuple):
        return isinstance(value, list) and all(is_of_type(one, args[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_of_type(one, args[1]) for one in value.values())
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            return False
        check_types(kind, value)  # type: ignore[arg-type]
        return True
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind


def from_json(kind: Any, value: Any) -> Any:
    """Convert a value from JSON to the type `kind`; only `check_types` checks the types.

    An object becomes a dataclass, a list a tuple, and a text a path, if `kind` asks for it.

    Raises:
        KeyError: A field is unknown. The key is the name of the field.
        TypeError: A field is missing, or the value cannot be converted.
        ValueError: The value cannot be converted.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (kind,) = (one for one in args if one is not types.NoneType)
        return None if value is None else from_json(kind, value)
    if dataclasses.is_dataclass(kind):
        hints = type_hints(kind)  # type: ignore[arg-type]
        fields = {name: from_json(hints[name], one) for name, one in dict(value).items()}
        return kind(**fields)  # type: ignore[operator]
    if origin is dict:
        return {key: from_json(args[1], one) for key, one in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(from_json(args[0], one) for one in value)
    return Path(value) if kind is Path else value

"""Settings as a tree of frozen dataclasses: its classes, and coercion of values to their type hints."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from mindllm_jax.checks import suggestion

T = TypeVar("T")


@cache  # Python evaluates the hints, which are text, at every call: nine tenths of the time of loading a configuration
def hints(cls: type) -> Mapping[str, Any]:
    """Returns the type hints of a class by field."""
    return typing.get_type_hints(cls)


def nested(cls: type) -> Iterator[tuple[type, str, type]]:
    """Yields (owner, field, class) for every dataclass-typed field of the tree, outer ones first."""
    for field in dataclasses.fields(cls):
        inner = hints(cls)[field.name]
        if not (isinstance(inner, type) and dataclasses.is_dataclass(inner)):
            continue
        if field.default_factory not in (dataclasses.MISSING, inner):
            raise TypeError(f"{cls.__name__}.{field.name}: a nested dataclass takes its defaults from its own class")
        yield cls, field.name, inner
        yield from nested(inner)


def classes(root: type) -> dict[str, type]:
    """Returns every dataclass of the tree by class name; each occurs once: settings are named by their class."""
    by_name = {root.__name__: root}
    for owner, name, inner in nested(root):
        if inner.__name__ in by_name:
            raise TypeError(f"{owner.__name__}.{name}: the configuration has two classes called {inner.__name__}")
        by_name[inner.__name__] = inner
    return by_name


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Returns whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def coerce(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` in the type of `hint` (float for int, int for 1e6, tuple for list), or raises ValueError.

    Numbers have to be finite, and integers to fit into 64 bits.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} = {value}: must be a finite number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: must fit into 64 bits")
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in inner:
            try:
                return coerce(value, option, where)
            except ValueError:
                continue
    elif origin is Literal:
        if value in inner:
            return value
        choices = ", ".join(map(repr, inner))
        raise ValueError(f"{where} = {value!r}: must be one of {choices}{suggestion(str(value), map(str, inner))}")
    elif origin is tuple and isinstance(value, list | tuple):
        if inner[-1:] == (Ellipsis,):
            return tuple(coerce(item, inner[0], where) for item in value)
        if len(value) == len(inner):
            return tuple(coerce(item, kind, where) for item, kind in zip(value, inner, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {coerce(k, inner[0], where): coerce(v, inner[1], f"{where}[{k!r}]") for k, v in value.items()}
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return from_json(hint, value, where)
    elif typing.is_typeddict(hint):
        if isinstance(value, dict):
            return _coerce_keys(value, hint, where)
    elif hint in (None, type(None)) and value is None:
        return None
    elif hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
    elif hint is float and isinstance(value, int | float):
        return float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    wanted = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ValueError(f"{where} = {value!r}: must be {wanted}, not {type(value).__name__}")


def _coerce_keys(value: dict[Any, Any], hint: Any, where: str) -> dict[str, Any]:
    """Coerces a dict whose keys a TypedDict names."""
    known_keys = hints(hint)
    for key in value:
        if key not in known_keys:
            known = ", ".join(map(repr, known_keys))
            raise ValueError(f"{where} has no key {key!r}{suggestion(str(key), known_keys) or f'; it has {known}'}")
    for key, kind in typing.get_type_hints(hint, include_extras=True).items():
        if key not in value and typing.get_origin(kind) is not typing.NotRequired:
            raise ValueError(f"{where} = {value!r}: the key {key!r} is missing")
    return {key: coerce(item, known_keys[key], f"{where}[{key!r}]") for key, item in value.items()}


def from_json(cls: type[T], values: dict[str, Any], where: str = "config.json") -> T:
    """Builds `cls` from its JSON object (config.json of a run). Raises ValueError that names a wrong field."""
    fields = hints(cls)
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must be the fields of {cls.__name__}, not {type(values).__name__}")
    unknown = set(values) - set(fields)
    if unknown:
        raise ValueError(f"{where}: {cls.__name__} has no field {sorted(unknown)}; it was written by another version")
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        if is_required(field) and field.name not in values:
            raise ValueError(f"{where}: {cls.__name__}.{field.name} is missing")
    built = {}
    for name, value in values.items():
        hint = fields[name]
        is_nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        place = f"{where}: {cls.__name__}.{name}"
        built[name] = from_json(hint, value, where) if is_nested else coerce(value, hint, place)
    return cls(**built)

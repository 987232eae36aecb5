"""Reads the fields of a JSON body; null is a field that was left out, as in OpenAI's API."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mindllm_jax.checks import suggestion
from mindllm_jax.serving.errors import ApiError

_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def parse_object(content: bytes) -> dict[str, Any]:
    """Parses the JSON object of a request. Raises ApiError (400) for anything else, NaN and Infinity included."""
    try:
        value: Any = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8 at byte {error.start}", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON that can be read: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, f"the body is {kind(value)}, where a JSON object is expected", code="invalid_json")
    return value


def kind(value: object) -> str:
    """Returns the JSON type of a value, for messages."""
    return _KINDS.get(type(value), "a number")


class Fields:
    """The fields of one object, each read with its type and bounds; readers raise ApiError (400) that names the field.

    where: the path of the object in the body, as `messages[0].`; empty for the body itself.
    """

    def __init__(self, values: Mapping[str, Any], where: str = ""):
        self._values = {name: value for name, value in values.items() if value is not None}
        self._where = where

    def check_names(
        self, supported: Sequence[str], harmless: Sequence[str], neutral: Mapping[str, Sequence[Any]]
    ) -> None:
        """Refuses unknown fields, and fields of OpenAI's API that would change the answer.

        Args:
            supported: fields that are read.
            harmless: fields that change no answer; accepted and ignored.
            neutral: fields that are not supported, each with the values that ask for nothing.
        """
        for name, value in self._values.items():
            if name in neutral and value not in neutral[name]:
                accepted = " or ".join([*(json.dumps(value) for value in neutral[name]), "null"])
                self.refuse(name, f"is not supported by this server; leave it out (accepted: {accepted})")
            if name not in supported and name not in harmless and name not in neutral:
                self.refuse(name, f"is not a known field{suggestion(name, [*supported, *neutral])}")

    def refuse(self, name: str, message: str, code: str | None = None) -> NoReturn:
        """Raises ApiError (400) about a field."""
        path = f"{self._where}{name}".encode(errors="backslashreplace").decode()  # it may have lone surrogates
        raise ApiError(400, f"'{path}' {message}", param=path, code=code)

    def value(self, name: str, *types: type) -> Any:
        """Returns a field, None where it was left out."""
        value = self._values.get(name)
        if value is not None and (type(value) not in types):
            expected = " or ".join(dict.fromkeys(_KINDS.get(type_, "a number") for type_ in types))
            self.refuse(name, f"is {kind(value)}, where {expected} is expected")
        return value

    def required(self, name: str, *types: type) -> Any:
        """Returns a field that must be given."""
        value = self.value(name, *types)
        if value is None:
            self.refuse(name, "is missing", "missing_required_parameter")
        return value

    def flag(self, name: str) -> bool:
        """Returns a boolean, false where it was left out."""
        return bool(self.value(name, bool))

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Returns an integer within its bounds, both included."""
        value = self.number(name, low, high)
        if value is not None and value != int(value):
            self.refuse(name, f"is {value}, where an integer is expected")
        return None if value is None else int(value)

    def number(self, name: str, low: float, high: float) -> float | None:
        """Returns a number within its bounds, both included."""
        value = self.value(name, int, float)
        if value is not None and not low <= value <= high:
            shown = value if not isinstance(value, int) or abs(value) < 10**20 else "too large"
            self.refuse(name, f"is {shown}: it must be at least {low}" + (f" and at most {high}" * math.isfinite(high)))
        return value

    def strings(self, name: str, most: int, longest: int) -> tuple[str, ...]:
        """Returns a string or an array of at most `most` strings, none of them empty or above `longest` characters."""
        value = self.value(name, str, list)
        values = [] if value is None else [value] if isinstance(value, str) else value
        if len(values) > most:
            self.refuse(name, f"has {len(values)} items; at most {most} are accepted")
        if not all(isinstance(item, str) and item for item in values):
            self.refuse(name, "must be a string that is not empty, or an array of them")
        if any(len(item) > longest for item in values):
            self.refuse(name, f"has a string of more than {longest:,} characters")
        return tuple(values)

    def object(self, name: str) -> Fields:
        """Returns the fields of an object, none where it was left out."""
        return Fields(self.value(name, dict) or {}, f"{self._where}{name}.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

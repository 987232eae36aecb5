"""Records of a domain's files, in whatever fields they are published, as texts by the names of their fields."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mindllm_jax.files import json_sha256
from mindllm_jax.text.documents import check_unicode
from mindllm_jax.text.json_lines import BadLine, lines, parse_rows, values


class Record(NamedTuple):
    """The fields of one record.

    Attributes:
        id: hash of all fields, so that equal records are one.
        fields: their texts by name, or by position ("0", "1", …) where the record is an array; the texts of a list are
            joined by line breaks, and a missing value is "".
    """

    id: str
    fields: dict[str, str]


def read_records(
    path: Path, remove: tuple[str, ...], *, on_bad: Literal["error", "skip"], skipped: Counter[str]
) -> Iterator[Record]:
    """Reads a file of JSON lines, plain or gzip: objects, arrays of a record's values, or arrays of objects.

    remove: regular expressions of what is deleted from every text. `on_bad` and `skipped` as in `read_conversations`.

    Raises OSError or ValueError as `parse_rows` does.
    """
    yield from parse_rows(
        path,
        values(path, lines(path), _are_objects),
        lambda value: _record(value, remove),
        on_bad=on_bad,
        skipped=skipped,
        expected="record",
        example='{"question": "...", "answer": "..."}, or ["...", 1]',
    )


def filled(template: str, fields: Mapping[str, str]) -> str:
    """Fills the {fields} of a template. Raises BadLine for a field that is missing or empty."""
    for name in fields_of(template):
        if name not in fields:
            raise BadLine("field missing", f"there is no field `{name}`; it has {', '.join(sorted(fields))}")
        if not fields[name]:
            raise BadLine("field empty", f"the field `{name}` is empty")
    return _FIELD.sub(lambda match: fields[match.group(1)], template).strip()


def fields_of(template: str) -> list[str]:
    """Returns the names of a template's {fields}, in order."""
    return [name for name in _FIELD.findall(template) if name]


_FIELD = re.compile(r"\{(\w+)\}")


def require_template(setting: str, template: str) -> None:
    """Raises ValueError where a template has no field, or braces that are none."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{setting} = {template!r}: {error}; write fields as {{name}}") from None
    if not fields_of(template):
        raise ValueError(f"{setting} = {template!r} has no field; write fields as {{name}}")
    if wrong := [name for _, name, *_ in parts if name is not None and not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"{setting}: {{{wrong[0]}}} is no field; write fields as {{name}}")


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _record(value: Any, remove: tuple[str, ...]) -> Record:
    if isinstance(value, BadLine):
        raise value
    if not isinstance(value, dict | list):
        raise BadLine("not a record", f"a JSON {type(value).__name__} where an object or an array was expected")
    named = value.items() if isinstance(value, dict) else enumerate(value)
    fields = {str(name): _clean(_text(part), remove) for name, part in named}
    for name, text in fields.items():
        check_unicode(name)
        check_unicode(text)
    return Record(json_sha256(fields, sort_keys=True, ensure_ascii=False)[:16], fields)


def _text(value: Any) -> str:
    if value is None or value != value or value == "NaN":  # NaN differs from itself
        return ""
    if isinstance(value, list):
        return "\n".join(_text(part) for part in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _clean(text: str, remove: tuple[str, ...]) -> str:
    for pattern in remove:
        text = re.sub(pattern, "", text)
    return text.strip()

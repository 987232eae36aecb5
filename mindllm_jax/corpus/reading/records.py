"""Records, and descriptions of unreadable input: the output of the readers of all formats."""

from dataclasses import dataclass, field
from typing import Any

from mindllm_jax.text.documents import check_name, text_of
from mindllm_jax.text.json_lines import BadLine

Scalar = str | int | float

# The markup of a text, for the step that extracts prose.
MARKUPS = ("text", "html", "wiki")


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a file. `number` identifies it in the file if it has no `id`.

    `where` is its place in the file ("line 3"); `size` is in bytes.
    """

    text: str
    id: str | None
    number: str
    where: str
    size: int
    metadata: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bad:
    """A piece of a file without a document; the pieces after it are read.

    `kind` is a few words to count by, `message` names defect and remedy, `size` is in bytes.
    """

    kind: str
    where: str
    message: str
    size: int


class BadFile(ValueError):
    """A file of which nothing (more) can be read. `kind` is a few words to count by; the message names the remedy."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def too_long(where: str, size: int, longest: int) -> Bad:
    """Describes a piece of `size` bytes if no more than `longest` are read."""
    return Bad(
        "too long",
        where,
        f"{size:,} bytes, more than the {longest:,} of max_document_bytes; split it, or raise max_document_bytes",
        size,
    )


def from_row(row: Any, *, text_field: str, id_field: str, number: int, where: str, size: int) -> Record:
    """Returns the record of a row of named values; strings and numbers other than text and id are its metadata.

    `format` is kept if it is one of MARKUPS: later steps read it.

    Raises:
        BadLine: the row has no text, or its `source` or `lang` cannot be a name.
    """
    text = text_of(row, text_field)
    id = row.get(id_field)
    if id is not None and not isinstance(id, Scalar):
        raise BadLine("bad id", f"`{id_field}` is a {type(id).__name__}, not a string or a number")
    metadata = {
        name: value
        for name, value in row.items()
        if isinstance(value, Scalar) and name not in (text_field, id_field, "source", "lang", "format")
    }
    for name in ("source", "lang"):
        if row.get(name) not in (None, ""):
            check_name(name, value := str(row[name]))
            metadata[name] = value
    if row.get("format") in MARKUPS:
        metadata["format"] = row["format"]
    return Record(text, None if id in (None, "") else str(id), str(number), where, size, metadata)

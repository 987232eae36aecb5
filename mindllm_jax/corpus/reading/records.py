"""Records, and descriptions of unreadable input: the output of the readers of all formats."""

from dataclasses import dataclass, field
from typing import Any

from mindllm_jax.text.documents import id_of, source_of, text_of
from mindllm_jax.text.names import language_code

Scalar = str | int | float

# The markup of a text, for the step that extracts prose.
MARKUPS = ("text", "html", "wiki")


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a file. `number` identifies it in the file if it has no `id`.

    `where` is its place in the file ("line 3"); `size` is in bytes. `metadata` has the keys that steps of the pipeline
    read (source, lang, format, url, title), `columns` the other values of the file, which no step reads.
    """

    text: str
    id: str | None
    number: str
    where: str
    size: int
    metadata: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bad:
    """A piece of a file without a document; the pieces after it are read.

    `kind` is a few words to count by, `message` names defect and remedy, `size` is in bytes. A `page` of a crawl never
    stops a run: its server or its author made the defect, and fetching it again would not mend it.
    """

    kind: str
    where: str
    message: str
    size: int
    page: bool = False


class BadFile(ValueError):
    """A file of which nothing (more) can be read. `kind` is a few words to count by; the message names the remedy."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def too_long(where: str, size: int, longest: int, *, page: bool = False) -> Bad:
    """Describes a piece of `size` bytes if no more than `longest` are read."""
    return Bad(
        "too long",
        where,
        f"{size:,} bytes, more than the {longest:,} of max_document_bytes; split it, or raise max_document_bytes",
        size,
        page,
    )


def from_row(row: Any, *, text_field: str, id_field: str, number: int, where: str, size: int) -> Record:
    """Returns the record of a row of named values; strings and numbers that no step reads are its columns.

    Raises:
        BadLine: the row has no text, or its id is neither a string nor a number.
    """
    text, id = text_of(row, text_field), id_of(row, id_field)
    metadata: dict[str, str] = {}
    columns: dict[str, Scalar] = {}
    for name, value in row.items():
        if name in (text_field, id_field) or not isinstance(value, Scalar):
            continue
        if name == "source":
            if (source := source_of(row)) is not None:
                metadata["source"] = source
        elif name == "lang":
            if (code := language_code(value)) is not None:
                metadata["lang"] = code
        elif name == "format" and value in MARKUPS:
            metadata["format"] = str(value)
        elif name in ("url", "title") and isinstance(value, str):
            metadata[name] = writable(value)
        else:
            columns[writable(name)] = writable(value)
    return Record(text, id, str(number), where, size, metadata, columns)


def writable(value: Any) -> Any:
    """Returns a value that a JSON writer takes: U+FFFD for broken Unicode, digits for integers beyond 64 bits."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str(value) if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63 else value

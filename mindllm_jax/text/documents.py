"""Documents, which every later stage reads, and their split into training and held-out text."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindllm_jax.files import files_below, replacing
from mindllm_jax.text.json_lines import BadLine, lines, parse, parse_rows
from mindllm_jax.text.names import language_code, source_name


@dataclass(frozen=True, slots=True)
class Document:
    """One text: `source` names its collection, `lang` its language (`zh`, `en`); `id` is unique in the source."""

    text: str
    source: str
    lang: str
    id: str


_SUFFIX = re.compile(r"\.jsonl?(\.gz)?\Z", re.IGNORECASE)

_PART = re.compile(r"/part\d++(?:[#@].*)?\Z", re.S)
"""The end of the id of a part, also where it was made unique after the text was split."""


def part_id(id: str, number: int) -> str:
    """Returns the id of a part of the document `id`."""
    return f"{id}/part{number}"


def held_out(id: str, fraction: float) -> bool:
    """Whether the document `id` is in the held-out `fraction` (0 to 1) of its source.

    It depends on the sha256 of the id alone, so a document stays on its side when files are reordered, joined or
    extended, and a document held out in a small fraction is held out in every larger one. Parts of a document
    (`part_id`) are on its side, all of them.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"the held-out fraction must lie between 0 and 1, not {fraction}")
    whole = _PART.sub("", id)
    return int.from_bytes(hashlib.sha256(whole.encode()).digest()[:8]) / 2**64 < fraction


class SeenIds:
    """Remembers ids, in about 8 to 20 bytes each.

    The chance that two of ten million ids share a 64-bit hash and are taken for one is 3 in a million.
    """

    def __init__(self) -> None:
        self._settled = np.empty(0, np.uint64)  # sorted
        self._recent: set[int] = set()

    def add(self, source: str, id: str) -> bool:
        """Adds an id; returns False if this source had it before."""
        key = id_hash(source, id)
        if key in self._recent or (len(self._settled) and self._is_settled(key)):
            return False
        self._recent.add(key)
        # A Python set takes ten times the memory of an array: it holds the latest eighth at most.
        if len(self._recent) > max(1 << 16, len(self._settled) // 8):
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._settled = np.sort(np.concatenate([self._settled, recent]))
            self._recent.clear()
        return True

    def _is_settled(self, key: int) -> bool:
        place = int(np.searchsorted(self._settled, np.uint64(key)))
        return place < len(self._settled) and int(self._settled[place]) == key

    def hashes(self) -> np.ndarray:
        """Returns the hashes of all ids, sorted."""
        return np.sort(np.concatenate([self._settled, np.fromiter(self._recent, np.uint64, len(self._recent))]))


def id_hash(source: str, id: str) -> int:
    """Returns a hash of 64 bits of an id in its source."""
    return int.from_bytes(hashlib.blake2b(f"{source}\0{id}".encode(), digest_size=8).digest())


def read_documents(
    path: Path,
    *,
    source: str | None = None,
    lang: str | None = None,
    on_bad: Literal["error", "skip"] = "error",
    seen: SeenIds | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Document]:
    """Reads a JSON-lines file, plain or gzip: an object per line with `text` and, optionally, `source`, `lang`, `id`.

    Args:
        path: the file, UTF-8.
        source: the source of lines that do not name one; the file's name without .jsonl or .jsonl.gz if not given.
        lang: the language of lines that do not name one.
        on_bad: what to do with a line without a document: "error" or "skip".
        seen: the ids of earlier files; pass one object for all files of a source to detect duplicates across files.
        skipped: with `on_bad="skip"`, the number of skipped lines is added by reason.

    Lines without an id get one from their text, so equal texts have equal ids and fall on the same side of the split.
    Names of sources and tags of languages are normalised (`text/names.py`). Blank lines are ignored.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it has lines and none of them is a document, it is compressed but not by gzip, damaged, or
            (`on_bad="error"`) has a bad line, which is named, or no lines.
    """
    if on_bad not in ("error", "skip"):
        raise ValueError(f"on_bad must be 'error' or 'skip', not {on_bad!r}")
    seen = SeenIds() if seen is None else seen
    source = _SUFFIX.sub("", path.name) if source is None else source

    def parse_document(line: bytes) -> Document:
        document = _parse(line, source, lang)
        if not seen.add(document.source, document.id):
            raise BadLine(
                "duplicate id",
                f"the id {document.id!r} was seen before in source {document.source!r} (a line without an `id` is named"
                " by its text, so the text is there twice); remove one of the two or rename it",
            )
        return document

    yield from parse_rows(
        path,
        ((f"{path}, line {number}", line) for number, line in lines(path)),
        parse_document,
        on_bad=on_bad,
        skipped=skipped,
        expected="document",
        example='{"text": "...", "lang": "en", "id": "1"}',
    )


def is_document_file(file: Path) -> bool:
    """Whether the name of a file is that of JSON lines, plain or gzip; `._a.jsonl` is macOS's notes on `a.jsonl`."""
    return file.name.endswith((".jsonl", ".jsonl.gz")) and not file.name.startswith("._")


def document_files(directory: Path, *, subfolders: bool = False) -> list[Path]:
    """Lists the `.jsonl` and `.jsonl.gz` files of a folder, and of the folders in it with `subfolders`, by path.

    Raises:
        OSError: there is no such folder.
        ValueError: it holds no such file.
    """
    if not directory.exists():
        raise FileNotFoundError(f"there is no folder {directory}")
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file; give the folder that holds the .jsonl files")
    files = sorted(filter(is_document_file, files_below(directory) if subfolders else directory.iterdir()))
    if not files:
        raise ValueError(f"{directory} holds no .jsonl or .jsonl.gz file")
    return files


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes one JSON object per line, all or none; returns the number."""
    count = 0
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def text_of(row: Any, field: str = "text") -> str:
    """Returns the text of a row. Raises BadLine if there is none."""
    if not isinstance(row, dict):
        raise BadLine("not an object", f'a JSON {type(row).__name__} where an object {{"{field}": ...}} was expected')
    if field in row and row[field] is None:
        raise BadLine("no text", f"`{field}` is null; remove the line")
    if field not in row:
        fields = ", ".join(sorted(row)[:8]) or "none"
        raise BadLine(
            "no text",
            f"no `{field}` (its fields: {fields}); rename the field that holds the text,"
            " or clean the file first with CleanCorpus.text_field set to it",
        )
    text = row[field]
    if not isinstance(text, str):
        raise BadLine("text not a string", f"`{field}` is a {type(text).__name__}, not a string")
    if not text.strip():
        raise BadLine("empty text", f"`{field}` is empty; remove the line")
    return text


def id_of(row: dict[str, Any], field: str = "id") -> str | None:
    """Returns the id of a row; None if it has none: no value, "" or a number that is not finite.

    Raises:
        BadLine: the value is neither a string nor a number.
    """
    match row.get(field):
        case None | "":
            return None
        case str(id):
            return id
        case float(number) if not math.isfinite(number):
            return None
        # A column of whole numbers with gaps is read as floats.
        case float(number) if number.is_integer():
            return str(int(number))
        case bool() | list() | dict() as value:
            raise BadLine("bad id", f"`{field}` is a {type(value).__name__}, not a string or a number")
        case value:
            return str(value)


def source_of(row: Mapping[str, Any]) -> str | None:
    """Returns the name in a row's `source`; None where there is none. Raises BadLine for what is no name."""
    value = row.get("source")
    if value is None or value == "" or value != value:  # NaN, a missing value of pandas, differs from itself
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadLine("bad source", f"`source` is a {type(value).__name__}, not a name")
    return source_name(str(value))


def check_unicode(text: str) -> None:
    """Raises BadLine if UTF-8 cannot encode a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadLine(
            "broken Unicode", r"an escape \ud800 to \udfff without its other half, which no UTF-8 text can hold"
        ) from None


def _parse(line: bytes, source: str, lang: str | None) -> Document:
    """Parses the document of one line."""
    row = parse(line)
    text = text_of(row)
    declared = row.get("lang") or lang
    language = language_code(declared)
    if language is None and declared is not None:
        raise BadLine("bad lang", f"`lang` is {declared!r}, which is no code of a language such as zh or en")
    if language is None:
        raise BadLine(
            "no lang",
            'no `lang`; add it to the line ("lang": "zh") or set the language of all lines (lang = "zh")',
        )
    id = id_of(row) or hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    check_unicode(f"{text}{id}")
    return Document(text=text, source=source_of(row) or source_name(source), lang=language, id=id)

"""Reads the items of benchmarks from their raw files as published."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindllm_jax.files import files_below

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".dev", ".devtest")
_WITHOUT_ITEMS = (
    ".md",
    ".rst",
    ".py",
    ".sh",
    ".ipynb",
    ".yaml",
    ".yml",
    ".toml",
    ".cfg",
    ".html",
    ".cff",
    ".bib",
    ".lst",
    ".pdf",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".svg",
    ".sha256",
    ".md5",
)
"""Of documentation, scripts, lists of labels and checksums."""
_NAMES_WITHOUT_ITEMS = (
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "authors",
    "citation",
    "changelog",
    "version",
    "makefile",
    "dockerfile",
    "sha256sums",
    "md5sums",
)
"""Beginnings of the names of files without a suffix, or with a number for one, as `LICENSE-CC-BY-4.0`."""


def benchmark_files(folder: Path) -> dict[str, list[Path]]:
    """Lists the raw files by benchmark: each folder or file in `folder` is one.

    Links to folders are followed. Documentation, scripts, lists of labels and checksums are left out, and what
    is in files and folders whose names begin with "." or "__".

    Raises:
        OSError: there is no such folder.
        ValueError: it, or a folder in it, has no file of a known kind, or has a file of an unknown kind.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} with the raw files of benchmarks")
    files: dict[str, list[Path]] = {}
    known = f"{', '.join(SUFFIXES)} file (also with .gz)"
    for file in files_below(folder):
        parts, suffix = file.relative_to(folder).parts, _suffix(file)
        bare = not suffix.strip(".0123456789")
        if suffix in _WITHOUT_ITEMS or (bare and file.name.lower().startswith(_NAMES_WITHOUT_ITEMS)):
            continue
        if any(part.startswith((".", "__")) for part in parts):
            continue
        if suffix not in SUFFIXES:
            raise ValueError(f"{file} is no {known}: unpack or convert it, or move it away")
        files.setdefault(parts[0].split(".")[0], []).append(file)
    if not files:
        raise ValueError(f"{folder} has no {known}")
    holding = {file.parent.resolve() for found in files.values() for file in found}
    read = {place for inside in holding for place in (inside, *inside.parents)}
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and not inside.name.startswith((".", "__")) and inside.resolve() not in read:
            raise ValueError(f"{inside} has no {known}: no item of this benchmark would be found; move it away")
    return files


def items(file: Path) -> Iterator[list[str]]:
    """Reads the items of a file, each as its texts: question, choices, answer.

    A TSV file with a quote that is not closed, or closed within a field, is read without quoting.

    Raises ValueError for a file that is not of the kind that its name says.
    """
    content = file.read_bytes()
    try:
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
        suffix = _suffix(file)
        if suffix in (".csv", ".tsv"):
            yield from _cells(text, "," if suffix == ".csv" else "\t")
        elif suffix == ".jsonl":
            for line in filter(str.strip, text.split("\n")):
                yield list(_texts(json.loads(line)))
        elif suffix == ".json":
            for row in _rows(json.loads(text)):
                yield list(_texts(row))
        elif suffix in (".dev", ".devtest"):
            yield from ([line] for line in text.split("\n"))
        else:
            for paragraph in re.split(r"\n\s*\n", text):
                yield [line for line in paragraph.split("\n") if line.strip()]
    except (ValueError, OSError, EOFError, RecursionError, zlib.error, csv.Error) as error:
        raise ValueError(f"{file} cannot be read as the raw file of a benchmark: {error}") from None


def _suffix(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _cells(text: str, delimiter: str) -> list[list[str]]:
    # Fields of a benchmark may be longer than the 131,072 characters that csv takes as a sign of an error.
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return list(reader)
    except csv.Error as error:
        if delimiter == ",":
            raise ValueError(
                f"line {reader.line_num}: {error}; write a quote within a quoted field twice, and close each"
            ) from None
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE))


def _rows(value: Any) -> Iterator[Any]:
    """Yields the items of a JSON file: of a list its members, of an object of objects or lists those of each."""
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict) and value and all(isinstance(part, dict) for part in value.values()):
        yield from value.values()
    elif isinstance(value, dict) and any(isinstance(part, list) for part in value.values()):
        for part in value.values():
            yield from _rows(part) if isinstance(part, list) else [part]
    else:
        yield value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        # An escape may be half a surrogate pair; no cleaned text has one.
        yield value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)

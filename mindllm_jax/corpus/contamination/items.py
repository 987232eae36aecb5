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
_UNREAD = (".parquet", ".arrow", ".feather", ".xls", ".xlsx", ".zip", ".tar", ".tgz", ".zst", ".xz", ".bz2", ".7z")
"""Of files that may hold items and are not read."""


def benchmark_files(folder: Path) -> dict[str, list[Path]]:
    """Lists the raw files by benchmark: each folder or file in `folder` is one.

    Links to folders are followed. Files that cannot hold items, such as README.md or scripts, are left out.

    Raises:
        OSError: there is no such folder.
        ValueError: it, or a folder in it, has no file of a known kind, or a file may hold items and cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} with the raw files of benchmarks")
    files: dict[str, list[Path]] = {}
    known = f"{', '.join(SUFFIXES)} file (also with .gz)"
    for file in files_below(folder):
        if file.name.removesuffix(".gz").endswith(_UNREAD):
            raise ValueError(f"{file} is no {known}: unpack or convert it, or move it away")
        if file.name.removesuffix(".gz").endswith(SUFFIXES):
            files.setdefault(file.relative_to(folder).parts[0].split(".")[0], []).append(file)
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

    Raises ValueError for a file that is not of the kind that its name says.
    """
    content = file.read_bytes()
    try:
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
        suffix = Path(file.name.removesuffix(".gz")).suffix
        if suffix in (".csv", ".tsv"):
            # Fields of a benchmark may be longer than the 131,072 characters that csv takes as a sign of an error.
            csv.field_size_limit(1 << 30)
            yield from csv.reader(io.StringIO(text, newline=""), delimiter="," if suffix == ".csv" else "\t")
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

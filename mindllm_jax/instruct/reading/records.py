"""Records of instruction files: JSON lines, one JSON array, CSV, parquet, and lines `sentence@label`."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mindllm_jax.files import files_below
from mindllm_jax.instruct.reading.fields import SPEAKERS
from mindllm_jax.text.compression import compression
from mindllm_jax.text.input_files import named_files
from mindllm_jax.text.json_lines import BadLine, lines, values

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz", ".parquet", ".csv", ".csv.gz")
"""Suffixes, in small or capital letters, of the files that are read in a folder; `.txt` files have to be named."""

_UNREAD = (".zst", ".zstd", ".xz", ".bz2", ".zip", ".tsv", ".tsv.gz")  # suffixes of what may hold records


def instruction_files(inputs: Iterable[str]) -> list[Path]:
    """Lists the instruction files that `inputs` name: files, and the files of folders that have one of `SUFFIXES`.

    Raises:
        OSError: there is no such file or folder.
        ValueError: `inputs` is empty, a folder has no such file, or one of records that are not read (`_UNREAD`), or a
            file is named twice.
    """

    def of_folder(folder: Path) -> list[Path]:
        files = [file for file in files_below(folder) if not file.name.startswith("._")]  # macOS's notes on files
        if unread := [file.name for file in files if file.name.lower().endswith(_UNREAD)]:
            raise ValueError(
                f"{folder} holds files that are not read ({', '.join(unread[:5])}): write them as JSON lines, plain or "
                "gzip, or take them out of the folder, or name the files to be read one by one"
            )
        found = [file for file in files if file.name.lower().endswith(SUFFIXES)]
        if not found:
            raise ValueError(f"{folder} holds no instruction file ({', '.join(SUFFIXES)})")
        return found

    return named_files(inputs, of_folder, "instruction files")


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of every record of a file, or the `BadLine` that is in its place.

    A place is the file with a line or a row of it. Raises OSError or ValueError where the file cannot be read.
    """
    if path.is_file():
        with path.open("rb") as file:
            kind = compression(file.read(16))
        if kind not in (None, "gzip"):
            raise ValueError(f"{path} is {kind} data: decompress it; plain and gzip files are read")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        yield from _parquet_records(path)
    elif name.endswith(".csv"):
        yield from _csv_records(path)
    elif name.endswith(".txt"):
        for number, line in lines(path):
            yield f"{path}, line {number}", _decoded(line)
    else:
        yield from _json_records(path)


def dataset_name(path: Path) -> str:
    """Returns the name of a file without the suffix of its format."""
    suffix = next((suffix for suffix in (*SUFFIXES, ".txt") if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def are_messages(value: list[Any]) -> bool:
    """Whether a list is the messages of one conversation."""
    return bool(value) and all(
        isinstance(part, dict) and any(part.keys() >= {*fields} for fields in SPEAKERS.items()) for part in value
    )


def _json_records(path: Path) -> Iterator[tuple[str, Any]]:
    content = lines(path)
    first = list(islice(content, 1))
    if first and _begins_array(first[0][1]):
        for index, row in enumerate(_array(path, [*first, *content]), start=1):
            yield f"{path}, row {index}", row
    else:
        yield from values(path, chain(first, content), _are_records)


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError(f"{path}: parquet needs pyarrow: pip install 'mindllm-jax[select]'") from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged after row {number} ({error}); fetch or copy it again") from None


def _csv_records(path: Path) -> Iterator[tuple[str, Any]]:
    raw = path.read_bytes()
    try:
        text = _decoded(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); fetch or copy it again") from None
    csv.field_size_limit(2**31 - 1)  # of Python's reader: 131,072 characters, less than some conversations
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    for row in reader:
        where, width = f"{path}, line {reader.line_num}", len(reader.fieldnames or ())
        given = sum(value is not None for value in row.values()) if None not in row else width + len(row[None])
        if given != width:
            message = f"{given} fields, and the header has {width}; quote the commas"
            yield where, BadLine("wrong number of fields", message)
        else:
            yield where, row


def _decoded(content: bytes, path: Path | None = None) -> Any:
    """Returns UTF-8 as text; without a path, which a message would name, a `BadLine` in place of other bytes."""
    try:
        return content.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError as error:
        advice = "convert the file, for example with iconv -f GB18030 -t UTF-8"
        message = f"not UTF-8 (byte 0x{content[error.start]:02x} at position {error.start}); {advice}"
        if path is not None:
            raise ValueError(f"{path}: {message}") from None
        return BadLine("not UTF-8", message)


def _begins_array(line: bytes) -> bool:
    """Whether the first line of a file begins an array that it does not end."""
    text = line.removeprefix(codecs.BOM_UTF8).strip()
    return text.startswith(b"[") and not text.endswith(b"]")


def _array(path: Path, content: list[tuple[int, bytes]]) -> list[Any]:
    """Returns the records of an array over all lines of a file."""
    # With the blank lines, which `content` lacks, so that an error names the right line.
    text = [b"\n"] * content[-1][0]
    for number, line in content:
        text[number - 1] = line
    try:
        rows = json.loads(b"".join(text).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: wrong JSON at column {error.colno} ({error.msg}) in an array over several"
            " lines; fetch or repair the file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: an array of JSON that cannot be read ({error})") from None
    return rows if _are_records(rows) else [rows]


def _are_records(value: Any) -> bool:
    """Whether a JSON value is an array of records, and not a record."""
    holds_rows = isinstance(value, list) and any(isinstance(part, dict | list) for part in value)
    return holds_rows and not are_messages(value)

"""Reads files with one JSON value per line, plain or gzip; errors name the line and the defect."""

import codecs
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from mindllm_jax.text.compression import compression

Row = TypeVar("Row")
Value = TypeVar("Value")


class BadLine(ValueError):
    """A line without the expected content. `kind` is a few words to count by; the message names the remedy."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class HasLines(Protocol):
    """A binary file, also of gzip."""

    def readline(self, size: int | None = -1, /) -> bytes: ...


def numbered(file: HasLines, longest: int | None = None) -> Iterator[tuple[int, bytes, int]]:
    """Yields number (from 1), content and length in bytes of the lines that are not blank.

    The content of a line longer than `longest` bytes is its beginning; the rest is skipped and takes no memory.
    """
    number = 0
    while line := file.readline(-1 if longest is None else longest + 1):
        number += 1
        size, end = len(line), line
        while longest is not None and size > longest and not end.endswith(b"\n") and (end := file.readline(1 << 16)):
            size += len(end)
        if line.strip():
            yield number, line, size


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines of a plain or gzip file that are not blank, numbered from 1.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is a damaged gzip file, or compressed in another way.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a .jsonl file")
    number = 0
    with open(path, "rb") as raw:
        # By content, not by name: a renamed download would otherwise be reported as "not UTF-8".
        begin = raw.read(10)
        if (tool := compression(begin)) not in (None, "gzip"):
            raise ValueError(f"{path} is compressed by {tool}, and only gzip is read: decompress it with {tool} -d")
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if begin.startswith(b"\x1f\x8b") else raw
        try:
            for number, line, _ in numbered(file):
                yield number, line
        except EOFError:
            raise ValueError(
                f"{path} is cut off: the gzip file ends after line {number} without its end mark; fetch it again"
            ) from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged after line {number} ({error}); fetch or copy it again") from None


def parse(line: bytes, encoding: str = "utf-8") -> Any:
    """Parses the JSON value of one line. Raises BadLine if there is none."""
    try:
        # Without the newline, so that columns are counted on this line.
        return json.loads(line.removeprefix(codecs.BOM_UTF8).decode(encoding).rstrip())
    except UnicodeDecodeError as error:
        name = encoding.upper()
        other = "UTF-16" if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "GB18030"
        advice = (
            f"convert the file, for example with iconv -f {other} -t UTF-8" if name == "UTF-8" else "repair the line"
        )
        raise BadLine(
            f"not {name}",
            f"not {name} (byte 0x{error.object[error.start]:02x} at position {error.start}); {advice}",
        ) from None
    except json.JSONDecodeError as error:
        raise BadLine(
            "wrong JSON", f"wrong JSON at column {error.colno} ({error.msg}); each line must be one whole JSON object"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets without end
        raise BadLine("wrong JSON", f"JSON that cannot be read ({error})") from None


def values(
    path: Path, content: Iterable[tuple[int, bytes]], is_array: Callable[[Any], bool]
) -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of each of a file's lines, or the `BadLine` that is in its place.

    content: numbered lines, as from `lines`. is_array: whether the value of a line is an array of values, which are
    yielded one by one.
    """
    for number, line in content:
        where = f"{path}, line {number}"
        try:
            value = parse(line)
        except BadLine as bad:
            yield where, bad
            continue
        if is_array(value):
            yield from ((f"{where}, row {index}", part) for index, part in enumerate(value, start=1))
        else:
            yield where, value


def parse_rows(
    path: Path,
    rows: Iterable[tuple[str, Row]],
    parse_row: Callable[[Row], Value],
    *,
    on_bad: Literal["error", "skip"],
    skipped: Counter[str] | None,
    expected: str,
    example: str,
) -> Iterator[Value]:
    """Parses the rows of a file.

    Args:
        path: the file.
        rows: each with its place, which begins a message.
        parse_row: raises BadLine for a row without the expected content.
        on_bad: raises ValueError for such a row and for a file without rows, or skips them.
        skipped: with `on_bad="skip"`, the number of skipped rows and of files without rows is added by reason.
        expected: the content of a row in a word, such as "document".
        example: a row, for a message.

    Raises ValueError for a bad row or no row (`on_bad="error"`), and for a file whose rows are all bad.
    """
    skipped = Counter() if skipped is None else skipped
    reasons, empty = Counter[str](), True
    for where, row in rows:
        try:
            value = parse_row(row)
        except BadLine as bad:
            if on_bad == "error":
                raise ValueError(f"{where}: {bad} (or leave such lines out with on_bad = 'skip')") from None
            reasons[bad.kind] += 1
            skipped[bad.kind] += 1
            continue
        empty = False
        yield value
    if not empty:
        return
    if on_bad == "skip" and not reasons:
        skipped["empty file"] += 1
        return
    counts = ", ".join(f"{count} x {kind}" for kind, count in reasons.items())
    raise ValueError(
        f"{path} holds no {expected}: "
        + (f"every line was left out ({counts})" if counts else "the file is empty")
        + f"; it needs lines such as {example}"
        + ("" if counts else " (or leave such files out with on_bad = 'skip')")
    )

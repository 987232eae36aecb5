"""Reading files of one JSON value a line, plain or gzip, with errors that say what is wrong and where."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol


class BadLine(ValueError):
    """Why a line does not hold what it should. `kind` is a few words to count by, the message says what to do."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class HasLines(Protocol):
    """A binary file, of gzip's kind too."""

    def readline(self, size: int | None = -1, /) -> bytes: ...


def numbered(file: HasLines, longest: int | None = None) -> Iterator[tuple[int, bytes, int]]:
    """Number (from 1), content and length in bytes of the lines that are not blank.

    Of a line longer than `longest` bytes the content is its beginning; the rest is read past and takes no memory.
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
    """The lines of a plain or gzip file that are not blank, numbered from 1.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is a damaged gzip file.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a .jsonl file")
    number = 0
    with open(path, "rb") as raw:
        # By content, not by name: a renamed download would otherwise be told as "not UTF-8".
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if compressed else raw
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
    """The value of one line. Raises BadLine when there is none."""
    try:
        # Without the line's end, so that columns are counted on this line.
        return json.loads(line.removeprefix(codecs.BOM_UTF8).decode(encoding).rstrip())
    except UnicodeDecodeError as error:
        name = encoding.upper()
        advice = (
            "convert the file, for example with iconv -f GB18030 -t UTF-8" if name == "UTF-8" else "repair the line"
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

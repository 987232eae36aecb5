"""Reading files of one JSON value a line, plain or gzip, with errors that say what is wrong and where."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class BadLine(ValueError):
    """Why a line does not hold what it should. `kind` is a few words to count by, the message says what to do."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
        except EOFError:
            raise ValueError(
                f"{path} is cut off: the gzip file ends after line {number} without its end mark; fetch it again"
            ) from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged after line {number} ({error}); fetch or copy it again") from None


def parse(line: bytes) -> Any:
    """The value of one line of UTF-8. Raises BadLine when there is none."""
    try:
        return json.loads(line.decode("utf-8-sig").rstrip())  # so that columns are counted on this line
    except UnicodeDecodeError as error:
        raise BadLine(
            "not UTF-8",
            f"not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start}); convert the file, for"
            " example with iconv -f GB18030 -t UTF-8",
        ) from None
    except json.JSONDecodeError as error:
        raise BadLine(
            "wrong JSON", f"wrong JSON at column {error.colno} ({error.msg}); each line must be one whole JSON object"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets without end
        raise BadLine("wrong JSON", f"JSON that cannot be read ({error})") from None

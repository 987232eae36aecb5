"""Splits of data sets in the hub's schema, and readers of published files whose errors name file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindllm_jax.text.json_lines import BadLine, lines, parse

Item = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        dataset: its name on the hub, `mindllm/NAME` for ours.
        name: its configuration, `default` where it has only one.
        split: as the task calls it, such as `test`.
        items: in the order of the source.
        sources: the files that they were read from.
        left_out: number of published items that are not among `items`, by reason.
        notes: sentences on this copy of the files, as `Benchmark.notes`.
    """

    dataset: str
    name: str
    split: str
    items: Sequence[Item]
    sources: tuple[Path, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The file, relative to the data folder."""
        return f"{self.dataset}/{self.name}/{self.split}.jsonl"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: how its published files are read, and what a reader of its scores has to know.

    Attributes:
        read: yields the splits of the folder with the published files.
        notes: sentences on the benchmark, true of any copy of its files.
        generated: whether it is made by rule, from no files.
    """

    read: Callable[[Path], Iterator[Split]]
    notes: tuple[str, ...] = ()
    generated: bool = False


def plain_or_gzip(path: Path) -> Path:
    """Returns the path, or `PATH.gz` where that file alone exists."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.exists() and not path.exists() else path


def json_values(path: Path) -> Iterator[tuple[int, Any]]:
    """Reads a file with one JSON value per line, plain or gzip; yields the number of each line, and its value.

    Raises OSError, and ValueError for a line that is no JSON.
    """
    for number, line in lines(path):
        try:
            yield number, parse(line)
        except BadLine as bad:
            raise ValueError(f"{path}, line {number}: {bad}") from None


def json_lines(path: Path, texts: Sequence[str], others: Sequence[str] = ()) -> list[tuple[int, Item]]:
    """Reads objects from a file with one per line, plain or gzip; each with the number of its line.

    Raises OSError, and ValueError for a line that is no object with these fields (see `with_fields`).
    """
    return [
        (number, with_fields(value, f"{path}, line {number}", texts, others)) for number, value in json_values(path)
    ]


def json_value(path: Path) -> Any:
    """Reads the JSON value of a file. Raises OSError, and ValueError with the place where it is none."""
    text = _text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: wrong JSON at column {error.colno} ({error.msg})") from None


def text_lines(path: Path) -> list[str]:
    """Reads the lines of a UTF-8 file, without their ends. Raises OSError, and ValueError for other encodings."""
    return _text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")


def table(
    path: Path, columns: Sequence[str], *, header: bool = True, delimiter: str = ",", optional: int = 0
) -> list[tuple[int, Item]]:
    """Reads the rows of a CSV file by column; each with the number of its last line.

    header: whether the first row names the columns, which then have to be `columns`.
    optional: how many of the last columns may be missing.

    Raises OSError, and ValueError for a row with another number of cells and for another header.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    names, rows = list(columns), []
    try:
        if header and (found := next(reader, [])) != names:
            if found != names[: len(found)] or len(found) < len(names) - optional:
                raise ValueError(f"{path}, line 1: the header is {found}, expected {names}")
            names = found
        for cells in reader:
            if len(cells) != len(names):
                raise ValueError(f"{path}, line {reader.line_num}: {len(cells)} cells, expected {len(names)}: {names}")
            rows.append((reader.line_num, dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    return rows


def with_fields(item: object, where: str, texts: Sequence[str] = (), others: Sequence[str] = ()) -> Item:
    """Returns an object that has all fields. Raises ValueError, beginning with `where`, for anything else.

    texts: fields that hold a text which is not blank. others: fields with any value.
    """
    if not isinstance(item, dict):
        raise ValueError(f"{where}: a JSON {type(item).__name__} where an object was expected")
    if missing := [field for field in (*texts, *others) if field not in item]:
        raise ValueError(f"{where}: no field {', '.join(map(repr, missing))}; it has {', '.join(map(repr, item))}")
    for name in texts:
        value = item[name]
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: the field {name!r} is {json.dumps(value)}, expected a text that is not blank")
    return item


def require(condition: bool, where: str, problem: str) -> None:
    """Raises ValueError with the place and the problem where the condition does not hold."""
    if not condition:
        raise ValueError(f"{where}: {problem}")


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8; convert it, for example with iconv -f GB18030") from None

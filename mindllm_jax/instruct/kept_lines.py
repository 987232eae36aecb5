"""A file of JSON lines that are appended as results come, so that the same command resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mindllm_jax.text.json_lines import BadLine, lines, parse


def kept_lines(path: Path, texts: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields number and object of the lines, but not of an incomplete last one, of a process that was killed.

    texts: fields that every object has, as texts.

    Raises OSError where there is no file, ValueError that names a damaged line.
    """
    content = list(lines(path))
    for number, line in content:
        try:
            row = parse(line)
            if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in texts):
                raise BadLine("not a kept line", f"not an object with the texts {', '.join(f'`{n}`' for n in texts)}")
        except BadLine as bad:
            if number == content[-1][0] and not line.endswith(b"\n"):
                return
            raise ValueError(f"{path}, line {number}: {bad}; remove the line") from None
        yield number, row


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Opens a file for more lines and yields what appends one; an incomplete last line is removed or ended before.

    Raises OSError when the file cannot be written, ValueError when it is gzip data, which stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with path.open("r+b") as file:
            content = file.read()
            if content.startswith(b"\x1f\x8b"):
                raise ValueError(f"{path} is gzip data, to which no line is appended: decompress it by gunzip")
            begin = content.rfind(b"\n") + 1
            file.seek(begin)
            if _is_json(file.read()):
                file.write(b"\n")
            else:
                file.truncate(begin)
    with path.open("a", encoding="utf-8") as file:

        def append(row: Mapping[str, Any]) -> None:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()

        yield append


def _is_json(line: bytes) -> bool:
    try:
        parse(line)
    except BadLine:
        return False
    return True

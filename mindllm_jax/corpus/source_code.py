"""Source files of folders as documents of the language `code`, one JSON-lines file per source."""

from __future__ import annotations

import gzip
import hashlib
import json
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.files import files_below, replacing_bytes
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import is_document_file
from mindllm_jax.text.names import require_source_names

LANGUAGE = "code"


@dataclass(frozen=True)
class CollectCode:
    """Settings of a collection of source code.

    Attributes:
        output: the folder of the files SOURCE.jsonl.gz, one per source, and of no other `.jsonl` or
            `.jsonl.gz` files.
        folders: the folder of each source, `{"tools": "DIR"}`; if empty, `python_stdlib` is the standard library of
            the Python that runs this.
        suffixes: ends of the names of source files.
        excluded: names of folders that are left out wherever they are.
        min_chars: characters of the shortest file.
        max_chars: characters of the longest file.
        max_line_chars: characters of the longest line; a file with a longer one is data or was generated.
        min_letters: the smallest share of letters among the characters that are no white space; tables have less.
    """

    output: str
    folders: dict[str, str] = field(default_factory=dict)
    suffixes: tuple[str, ...] = (".py",)
    excluded: tuple[str, ...] = ("site-packages", "dist-packages", "test", "tests")
    min_chars: int = 200
    max_chars: int = 1_000_000
    max_line_chars: int = 1000
    min_letters: float = 0.5

    def __post_init__(self) -> None:
        require_local(self, "output", "folders")
        require_source_names("CollectCode.folders", self.folders)
        require_at_least(self, 1, "min_chars", "max_chars", "max_line_chars")
        if not 0.0 <= self.min_letters <= 1.0:
            raise ValueError(f"CollectCode.min_letters must be between 0 and 1, not {self.min_letters}")
        if not all(self.suffixes) or not self.suffixes:
            raise ValueError(f"CollectCode.suffixes is {self.suffixes}: name at least one, as '.py', and none empty")


class Collected(NamedTuple):
    """A source that was written.

    Attributes:
        source: its name.
        folder: where its files lie.
        documents: files that were kept.
        bytes: UTF-8 bytes of their text.
        left_out: numbers of other files, by reason.
    """

    source: str
    folder: Path
    documents: int
    bytes: int
    left_out: Counter[str]


class LeftOut(ValueError):
    """A file that gives no document; the message is the reason, to count by."""


def collect_code(config: CollectCode) -> list[Collected]:
    """Writes the source files of each folder as documents, in the order of their paths, which are their ids.

    Each text is kept once over all sources.

    Raises:
        OSError: there is no such folder, it or a folder in it cannot be read, or a file cannot be written.
        ValueError: no file of a folder is kept, and the source's file stays as it was; or the output has the file of
            another source, which later commands would read as well.
    """
    folders = config.folders or {"python_stdlib": sysconfig.get_path("stdlib")}
    documents = filter(is_document_file, Path(config.output).glob("*"))
    others = {file.name for file in documents} - {f"{name}.jsonl.gz" for name in folders}
    if others:
        raise ValueError(
            f"{config.output} has {', '.join(sorted(others))} of other sources, which later commands would read as"
            " well; move them away, or set another CollectCode.output"
        )
    for source, folder in folders.items():
        if not Path(folder).is_dir():
            raise NotADirectoryError(f"CollectCode.folders[{source!r}]: there is no folder {folder}")
    seen = set[bytes]()
    return [_write(config, source, Path(folder), seen) for source, folder in folders.items()]


def collected_table(collected: Iterable[Collected]) -> Table:
    """Tabulates the sources, and the files that were left out by reason."""
    rows = [
        [one.source, str(one.folder), one.documents, one.bytes / 1e6, _counts(one.left_out) or "none"]
        for one in collected
    ]
    return Table(("source", "folder", "documents", "MB", "files left out"), rows)


def _write(config: CollectCode, source: str, folder: Path, seen: set[bytes]) -> Collected:
    documents, size, left_out = 0, 0, Counter[str]()
    path = Path(config.output) / f"{source}.jsonl.gz"
    # Without name and time, the same text is the same file, so that a token store knows it again.
    with replacing_bytes(path) as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for id, text in _kept(config, folder, seen, left_out):
            row = {"text": text, "source": source, "lang": LANGUAGE, "id": id}
            file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
            documents, size = documents + 1, size + len(text.encode())
        if not documents:
            why = _counts(left_out) or f"no name ends in {' or '.join(config.suffixes)}"
            raise ValueError(
                f"{folder} has no source file to keep ({why}); name another folder, or change CollectCode.suffixes,"
                " excluded or the limits"
            )
    return Collected(source, folder, documents, size, left_out)


def _kept(config: CollectCode, folder: Path, seen: set[bytes], left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yields id and text of the files that are kept; counts the others."""
    for path in _source_files(config, folder):
        try:
            id, text = _id(path, folder), _text(path, config)
            digest = hashlib.sha256(text.encode()).digest()
            if digest in seen:
                raise LeftOut("exact copy")
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        seen.add(digest)
        yield id, text


def _source_files(config: CollectCode, folder: Path) -> list[Path]:
    excluded = set(config.excluded)
    return sorted(
        path
        for path in files_below(folder)
        if path.name.endswith(config.suffixes)
        and not excluded.intersection(path.relative_to(folder).parts[:-1])
        and path.is_file()
    )


def _id(path: Path, folder: Path) -> str:
    id = path.relative_to(folder).as_posix()
    try:
        id.encode()
    except UnicodeEncodeError:
        raise LeftOut("name not UTF-8") from None
    return id


def _text(path: Path, config: CollectCode) -> str:
    try:
        # A character takes four bytes at most: what is far too long is not read.
        text = "" if (long := path.stat().st_size > 4 * config.max_chars) else path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise LeftOut("not UTF-8") from None
    except OSError:
        raise LeftOut("cannot be read") from None
    if long or len(text) > config.max_chars:
        raise LeftOut("too long")
    if len(text.strip()) < config.min_chars:
        raise LeftOut("too short")
    if max(map(len, text.splitlines())) > config.max_line_chars:
        raise LeftOut("long lines")
    visible = "".join(text.split())
    if sum(map(str.isalpha, visible)) < config.min_letters * len(visible):
        raise LeftOut("few letters")
    return text


def _counts(left_out: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))

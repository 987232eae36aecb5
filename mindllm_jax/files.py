"""Atomic writes of files, so that a reader or an interrupted run sees the old one or the new one; checksums; JSON."""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError of the block that names no file, as that of a full disk, the path of the one being written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Opens a UTF-8 text file that replaces `path` when the block ends without an error. Makes missing folders.

    Raises:
        OSError: the file cannot be written (disk full, no permission), with the path; `path` is unchanged.
    """
    with replacing_bytes(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield text
        text.flush()


@contextmanager
def replacing_bytes(path: Path) -> Iterator[BinaryIO]:
    """Opens a binary file that replaces `path`, as `replacing`; of a link the file that it leads to."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))  # which leaves a link to itself, where resolve() raises
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".partial")
    try:
        # mkstemp makes files for the owner alone; give the file the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        with naming(path), open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, as `replacing`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically, as `replacing`."""
    with replacing_bytes(path) as file:
        file.write(content)


def files_below(folder: Path) -> list[Path]:
    """Lists the files in a folder and its subfolders, by path; follows links to folders.

    A folder that several names lead to is listed under one: its own before that of a link, and of links the first.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    starts = [folder]
    while starts:
        links: list[Path] = []
        for place, folders, names in (entry for start in starts for entry in os.walk(start, onerror=fail)):
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            found += [Path(place, name) for name in names]
            links += [path for name in folders if (path := Path(place, name)).is_symlink()]
        starts = sorted(links)
    return sorted(found)


def sha256(path: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any, *, sort_keys: bool = False, ensure_ascii: bool = True) -> str:
    """Returns the sha256 of a JSON value as `json.dumps` writes it, in hexadecimal."""
    content = json.dumps(value, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


def tree_sha256(root: Path, paths: Iterable[Path]) -> str:
    """Returns the sha256 of files below `root`, names and contents, in the order of their names; each counts once."""
    digest = hashlib.sha256()
    for path in sorted({path.relative_to(root) for path in paths}):
        digest.update(f"{path.as_posix()}\n".encode() + (root / path).read_bytes())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds one object.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is not UTF-8, not JSON or not an object; the message names the file and the place in it.
    """
    return parse_json(path.read_bytes(), str(path))


def parse_json(content: str | bytes, where: str) -> dict[str, Any]:
    """Parses one JSON object; `where`, the file or the file and line, begins each message.

    A byte order mark is skipped. Raises ValueError as `read_json` does.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        value: Any = json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: damaged: not UTF-8 text at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: damaged: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # an integer with more digits than Python reads, lists nested 1000s deep
        raise ValueError(f"{where}: damaged: not JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where}: damaged: it holds {_kind(value)} where a JSON object {{…}} is expected")
    return value


def _kind(value: object) -> str:
    kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")

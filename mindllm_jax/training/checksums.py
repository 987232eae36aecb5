"""Checksums of a checkpoint's files, because Orbax does not notice a flipped bit in a data file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import jax

from mindllm_jax.files import read_json, sha256, write_text
from mindllm_jax.parallel.together import together

CHECKSUMS = "checksums.json"
ITEMS = ("params", "training", "run")
"""The items of a checkpoint, each a folder: parameters; opt_state and counters; metadata of the run."""
PARAMETERS = ("params", "run")
"""The items that evaluation, generation and tuning read: a third of the bytes."""


def write_checksums(folder: Path) -> None:
    """Writes checksums.json: the sha256 of every file of the checkpoint, and the sha256 of that list."""
    files = {name: sha256(folder / name) for name in _files(folder, ITEMS)}
    write_text(folder / CHECKSUMS, json.dumps({"sha256": _digest(files), "files": files}, indent=1) + "\n")


def verify(folder: Path, items: Collection[str] = ITEMS) -> None:
    """Compares the files of a checkpoint's items with its checksums; each process of a run reads its share.

    Raises ValueError, in every process, that names a missing, damaged or unlisted file, or a damaged list.
    """
    together(lambda: compare(folder, items, jax.process_index(), jax.process_count()))


def compare(folder: Path, items: Collection[str] = ITEMS, share: int = 0, shares: int = 1) -> None:
    """Compares the names of all files with the list of checksums, and the contents of every `shares`-th one.

    Raises ValueError as `verify` does, but in this process alone.
    """
    listed = {name: digest for name, digest in _listed(folder).items() if name.partition("/")[0] in items}
    files = _files(folder, items)
    for name in sorted({*listed, *files}):
        if name not in files:
            raise _damaged(folder, f"{folder / name} is missing")
        if name not in listed:
            raise _damaged(folder, f"{folder / name} is not in {CHECKSUMS}")
    for item in items:
        if not any(name.startswith(f"{item}/") for name in listed):
            raise _damaged(folder, f"{folder / CHECKSUMS} lists no file of {item}")
    for name in files[share::shares]:
        if sha256(folder / name) != listed[name]:
            raise _damaged(folder, f"{folder / name} does not match its checksum")


def fingerprint(folder: Path, items: Collection[str] = ("params",)) -> str:
    """Returns the sha256 of the list of checksums of a checkpoint's items, which says whether two hold the same.

    Raises ValueError where the list is missing or damaged.
    """
    return _digest({name: digest for name, digest in _listed(folder).items() if name.partition("/")[0] in items})


def _listed(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise _damaged(folder, f"{path} is missing: the checkpoint is incomplete") from None
    except ValueError as error:
        raise _damaged(folder, str(error)) from None
    files = content.get("files")
    if not isinstance(files, dict) or content.get("sha256") != _digest(files):
        raise _damaged(folder, f"{path} was changed after it was written")
    return files


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(f"{reason}: the checkpoint is damaged. Remove {folder} to use an older one")


def _files(folder: Path, items: Collection[str]) -> list[str]:
    """Lists the data files by their path inside the checkpoint, in order."""
    paths = [path for item in items for path in (folder / item).rglob("*") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.name != "commit_success.txt")


def _digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

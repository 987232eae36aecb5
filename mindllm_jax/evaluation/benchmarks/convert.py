"""Converts published benchmarks to files in the hub's schema: DATA/DATASET/NAME/SPLIT.jsonl and a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindllm_jax.checks import require_local, suggestion
from mindllm_jax.evaluation.benchmarks import (
    agieval,
    arithmetic,
    commonsense,
    examinations,
    finance,
    law,
    mathematics,
    reading,
    translation,
)
from mindllm_jax.evaluation.benchmarks.splits import Split
from mindllm_jax.files import read_json, sha256, write_text
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import write_json_lines

FAMILIES = (examinations, agieval, mathematics, arithmetic, commonsense, reading, translation, law, finance)
BENCHMARKS = {name: benchmark for family in FAMILIES for name, benchmark in family.BENCHMARKS.items()}
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PrepareBenchmarks:
    """Settings of a conversion of benchmarks.

    Attributes:
        source: folder with one folder of published files per benchmark.
        benchmarks: the benchmarks to convert; by default those whose folder is there.
        folders: folders of benchmarks that lie elsewhere, by name; of those in `benchmarks` alone where it has any.
    """

    source: str
    benchmarks: tuple[str, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_local(self, "source", "folders")
        for name in (*self.benchmarks, *self.folders):
            if name not in BENCHMARKS:
                hint = suggestion(name, BENCHMARKS) or f"; there are {', '.join(BENCHMARKS)}"
                raise ValueError(f"PrepareBenchmarks.benchmarks: there is no benchmark {name!r}{hint}")
        for name in self.folders:
            if self.benchmarks and name not in self.benchmarks:
                raise ValueError(
                    f"PrepareBenchmarks.folders: {name!r} is not among PrepareBenchmarks.benchmarks ="
                    f" {self.benchmarks}; add it there or leave its folder out"
                )


@dataclass(frozen=True)
class Converted:
    """The splits of the benchmarks that were found, by benchmark, and the names of the missing ones."""

    splits: dict[str, list[Split]]
    missing: tuple[str, ...]

    def table(self) -> Table:
        """Tabulates data sets and items per benchmark."""
        rows = []
        for name, splits in self.splits.items():
            left_out = sum(sum(split.left_out.values()) for split in splits)
            items = sum(len(split.items) for split in splits)
            sets = ", ".join(dict.fromkeys(split.dataset for split in splits))
            rows.append(
                (name, sets if len(sets) < 60 else sets[:57] + "…", f"{items:,}", f"{left_out:,}" if left_out else "")
            )
        rows += [(name, "no folder in the source", "", "") for name in self.missing]
        return Table(("benchmark", "data sets", "items", "left out"), rows, "Benchmarks")


def convert(config: PrepareBenchmarks) -> Converted:
    """Reads all published files and returns the splits in the hub's schema; writes nothing.

    Raises FileNotFoundError for a missing source or a benchmark asked for by name whose files are missing, and
    ValueError, with file and line, for a malformed row.
    """
    source = Path(config.source)
    if not source.is_dir():
        raise FileNotFoundError(f"PrepareBenchmarks.source = {source}: there is no such folder")
    folders = {name: source / name for name in config.benchmarks or BENCHMARKS}
    folders |= {name: Path(folder) for name, folder in config.folders.items()}
    found = {name: path for name, path in folders.items() if path.is_dir() or BENCHMARKS[name].generated}
    missing = tuple(name for name in folders if name not in found)
    for name in missing:
        if name in config.benchmarks or name in config.folders:
            raise FileNotFoundError(f"the benchmark {name!r} was asked for: there is no folder {folders[name]}")
    if all(BENCHMARKS[name].generated for name in found) and not config.benchmarks:
        raise FileNotFoundError(f"PrepareBenchmarks.source = {source}: it holds none of {', '.join(BENCHMARKS)}")
    return Converted({name: _checked(name, folder) for name, folder in found.items()}, missing)


def write(converted: Converted, data: Path) -> None:
    """Writes each split atomically, then the manifest, which keeps what it says of other benchmarks.

    Files of an earlier conversion of these benchmarks that the source has no more are removed.
    """
    path = data / MANIFEST
    manifest = read_json(path) if path.exists() else {}
    for name, splits in converted.splits.items():
        for split in splits:
            write_json_lines(data / split.path, iter(split.items))
        files = {split.path: _described(split) for split in splits}
        for old in manifest.get(name, {}).get("files", {}).keys() - files:
            (data / old).unlink(missing_ok=True)
        manifest[name] = {
            "notes": [*BENCHMARKS[name].notes, *dict.fromkeys(note for split in splits for note in split.notes)],
            "files": files,
        }
    write_text(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def notes(data: Path, datasets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns what the manifest of a data folder says of data sets such as `cais/mmlu`, by their names.

    `notes` are sentences, `files` holds items, left-out items by reason and sha256 of the sources per file. A set that
    the manifest does not know is left out.
    """
    path, found = data / MANIFEST, dict[str, dict[str, Any]]()
    benchmarks = list(read_json(path).values()) if path.exists() else []
    for name in sorted(set(datasets)):
        for benchmark in benchmarks:
            files = {file: entry for file, entry in benchmark["files"].items() if file.startswith(f"{name}/")}
            if files:
                found[name] = {"notes": benchmark["notes"], "files": files}
    return found


def _checked(name: str, folder: Path) -> list[Split]:
    splits = list(BENCHMARKS[name].read(folder))
    if not splits:
        raise FileNotFoundError(f"{folder} holds none of the published files of {name}")
    for split in splits:
        if not split.items:
            raise ValueError(f"{split.sources[0]} holds no items")
    return splits


def _described(split: Split) -> dict[str, Any]:
    described: dict[str, Any] = {"items": len(split.items)}
    if split.left_out:
        described["left_out"] = dict(split.left_out)
    return described | {"sources": dict(_hashes(split))}


def _hashes(split: Split) -> Iterator[tuple[str, str]]:
    for path in split.sources:
        # Files of one name lie in a folder per task.
        yield f"{path.parent.name}/{path.name}", sha256(path)

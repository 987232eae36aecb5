"""Converts published benchmarks to files in the hub's schema: DATA/DATASET/NAME/SPLIT.jsonl and a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindllm_jax.checks import require_local, suggestion
from mindllm_jax.evaluation.benchmarks import agieval, commonsense, examinations, mathematics, reading
from mindllm_jax.evaluation.benchmarks.splits import Split
from mindllm_jax.files import read_json, replacing, sha256, write_text
from mindllm_jax.reporting.tables import Table

FAMILIES = (examinations, agieval, mathematics, commonsense, reading)
BENCHMARKS = {name: benchmark for family in FAMILIES for name, benchmark in family.BENCHMARKS.items()}
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PrepareBenchmarks:
    """Settings of a conversion of benchmarks.

    Attributes:
        source: folder with one folder of published files per benchmark.
        benchmarks: the benchmarks to convert; by default those whose folder is there.
    """

    source: str
    benchmarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_local(self, "source")
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                hint = suggestion(name, BENCHMARKS) or f"; there are {', '.join(BENCHMARKS)}"
                raise ValueError(f"PrepareBenchmarks.benchmarks: there is no benchmark {name!r}{hint}")


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
    found = {name: source / name for name in config.benchmarks or BENCHMARKS if (source / name).is_dir()}
    missing = tuple(name for name in config.benchmarks or BENCHMARKS if name not in found)
    if missing and config.benchmarks:
        raise FileNotFoundError(f"PrepareBenchmarks.benchmarks: there is no folder {source / missing[0]}")
    if not found:
        raise FileNotFoundError(f"PrepareBenchmarks.source = {source}: it holds none of {', '.join(BENCHMARKS)}")
    return Converted({name: _checked(name, folder) for name, folder in found.items()}, missing)


def write(converted: Converted, data: Path) -> None:
    """Writes each split atomically, then the manifest, which keeps what it says of other benchmarks."""
    path = data / MANIFEST
    manifest = read_json(path) if path.exists() else {}
    for name, splits in converted.splits.items():
        for split in splits:
            with replacing(data / split.path) as file:
                file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in split.items)
        manifest[name] = {
            "notes": list(BENCHMARKS[name].notes),
            "files": {split.path: _described(split) for split in splits},
        }
    write_text(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def notes(data: Path, dataset: str) -> dict[str, Any]:
    """Returns what the manifest of a data folder says of one data set, such as `cais/mmlu`.

    `notes` are sentences, `files` holds items, left-out items by reason and sha256 of the sources per file. Empty
    where the folder has no manifest or it does not know the set.
    """
    path = data / MANIFEST
    for benchmark in (read_json(path) if path.exists() else {}).values():
        files = {file: entry for file, entry in benchmark["files"].items() if file.startswith(f"{dataset}/")}
        if files:
            return {"notes": benchmark["notes"], "files": files}
    return {}


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
        yield path.name, sha256(path)

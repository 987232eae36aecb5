"""Records of finished runs: one small JSON file each, from which every table is rebuilt without training."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mindllm_jax.files import read_json, write_text

POINTS = 200
"""The most points of a curve in a record."""

LAST = 20
"""The last points of a curve, which all are in the record: the most evaluations that a measure averages."""

Curve = list[tuple[int, float]]  # step, value


@dataclass(frozen=True)
class Record:
    """The record of one run.

    Attributes:
        settings: as `plan.Run.settings`.
        version: as `plan.Run.version`; records of two versions are never compared.
        status: done, or failed: the run diverged.
        reason: why it failed.
        suite: title of the suite for which it was trained; other suites use it as well.
        variant: its variant in that suite.
        seed: of parameters and rows.
        scale: as `Suite.scale`.
        commit: of the checkout.
        command: the command that trains this run alone.
        date: of its end, ISO 8601 in UTC, to the second; a day alone in older records.
        hardware: the processor or accelerator.
        versions: of packages.
        parameters: of the model.
        tokens: that it was trained on.
        flops: of training.
        seconds: that training and its evaluations took, of the last session where the run was cut.
        curves: values by step of each measure and of the training loss.
    """

    settings: str
    version: str
    status: Literal["done", "failed"]
    reason: str
    suite: str
    variant: str
    seed: int
    scale: str
    commit: str
    command: list[str]
    date: str
    hardware: str
    versions: dict[str, str]
    parameters: int
    tokens: int
    flops: float
    seconds: float
    curves: dict[str, Curve]

    def measure(self, name: str, last: int) -> float:
        """Returns the mean of the last evaluations of a measure; NaN for a failed run, or one that lacks it.

        The evaluation of the untrained model is none of them. last: at most `LAST`.
        """
        values = [value for step, value in self.curves.get(name, []) if step][-last:]
        return sum(values) / len(values) if values and self.status == "done" else math.nan

    def failure(self, measures: Sequence[str], last: int) -> str:
        """Returns why the run failed, or that one of the measures has no finite value; "" where all have one."""
        if self.status == "failed":
            return self.reason
        return "; ".join(
            f"{name} {'is not finite' if self.curves.get(name) else 'was not measured'}"
            for name in measures
            if not math.isfinite(self.measure(name, last))
        )


def read_records(folder: Path) -> dict[str, dict[str, Record]]:
    """Returns the records in a folder by settings and version.

    Raises ValueError, with the file and the field, where one is damaged or has another run's name.
    """
    found: dict[str, dict[str, Record]] = {}
    fields = {field.name for field in dataclasses.fields(Record)}
    for path in sorted(folder.glob("*.json")):
        values = read_json(path)
        if wrong := sorted(fields ^ values.keys()):
            raise ValueError(f"{path}: damaged: {wrong[0]!r} is {'missing' if wrong[0] in fields else 'unknown'}")
        try:
            record = _record(values)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged: not the record of a run: {error}") from None
        if path.name != record_name(record.settings, record.version):
            raise ValueError(
                f"{path}: holds the record of {record_name(record.settings, record.version)}: remove the copy, or give"
                " it that name"
            )
        found.setdefault(record.settings, {})[record.version] = record
    return found


def record_name(settings: str, version: str) -> str:
    """Returns the name of a run's record, given `plan.Run.settings` and `plan.Run.version`."""
    return f"{settings}-{version}.json"


def write_record(folder: Path, record: Record) -> None:
    """Writes a record atomically, a point of a curve in a line."""
    values: dict[str, Any] = dataclasses.asdict(record)
    curves = values.pop("curves")
    head = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)[:-2]
    lines = [f"  {json.dumps(name)}: {json.dumps(_finite(curve), allow_nan=False)}" for name, curve in curves.items()]
    write_text(
        folder / record_name(record.settings, record.version),
        head + ',\n "curves": {\n' + ",\n".join(lines) + "\n }\n}\n",
    )


def curves(metrics: Sequence[Mapping[str, float]], groups: Sequence[str]) -> dict[str, Curve]:
    """Returns the curves of the training loss and of the metrics of groups, thinned to `POINTS`, from a run's metrics.

    groups: names of metrics, or the parts of their names before the slash.
    """
    names = ["loss", *dict.fromkeys(name for row in metrics for name in row if name.partition("/")[0] in groups)]
    found: dict[str, Curve] = {}
    for name in names:
        points = [(int(row["step"]), row[name]) for row in metrics if name in row]
        step = math.ceil((len(points) - LAST) / (POINTS - LAST)) if len(points) > POINTS else 1
        found[name] = [*points[:-LAST][::step], *points[-LAST:]]
    return found


def _record(values: dict[str, Any]) -> Record:
    values["curves"] = {
        name: [(int(step), math.nan if value is None else float(value)) for step, value in curve]
        for name, curve in values["curves"].items()
    }
    kinds = {"str": str, "int": int, "float": (int, float), "list[str]": list, "dict[str, str]": dict}
    for field in dataclasses.fields(Record):
        kind, value = kinds.get(str(field.type)), values[field.name]
        if kind and (not isinstance(value, kind) or isinstance(value, bool)):
            raise TypeError(f"{field.name} is {value!r}, where {field.type} was expected")
    for name, curve in values["curves"].items():
        steps = [step for step, _ in curve]
        if steps != sorted(set(steps)):
            raise ValueError(f"the steps of {name} do not rise")
    if values["status"] not in ("done", "failed"):
        raise ValueError(f"status is {values['status']!r}")
    return Record(**values)


def _finite(curve: Curve) -> list[tuple[int, float | None]]:
    return [(step, round(value, 6) if math.isfinite(value) else None) for step, value in curve]

"""The report of one run, from the files of its workdir."""

import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindllm_jax.files import parse_json, read_json
from mindllm_jax.reporting.page import Details, Figure, Page, Paragraph, Part, Section, write_page
from mindllm_jax.reporting.plots import Line, line_plot
from mindllm_jax.reporting.tables import Table
from mindllm_jax.reporting.units import metric_unit, unit_of

# More lines cannot be distinguished.
_MAX_LINES = 8
_TASKS = "tasks/"
_LANGUAGES = {"bits_per_byte/zh": "Chinese", "bits_per_byte/en": "English", "bits_per_byte/code": "code"}


def run_report(workdir: Path) -> Path:
    """Writes `report.html` into the workdir of a run and returns its path.

    Raises:
        OSError: the workdir has no `metrics.jsonl`.
        ValueError: `metrics.jsonl` or a `.json` file beside it is damaged.
    """
    metrics = read_metrics(workdir)
    last = max(row["step"] for row in metrics)
    page = Page(f"Run {workdir.resolve().name}", f"{last:,} steps", [*curves(metrics), *setup(workdir)])
    write_page(workdir / "report.html", page)
    return workdir / "report.html"


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Returns the rows of `metrics.jsonl`, in order; a null, which was not finite, as NaN."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(
            f"{workdir} holds no metrics.jsonl: it is not a run's workdir, or the run logged nothing yet"
        )
    rows = [
        {name: math.nan if value is None else value for name, value in row.items()} for _, row in metrics_lines(path)
    ]
    if not rows:
        raise ValueError(f"{path} is empty: the run logged nothing yet")
    return rows


def metrics_lines(path: Path) -> Iterator[tuple[bytes, dict[str, float | None]]]:
    """Yields each line of a metrics.jsonl and its row, but not an incomplete last line of a killed run.

    Raises ValueError with the line number and a remedy for a line that is not numbers by name with an integer `step`.
    """
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        where, remedy = f"{path}, line {number}", "remove the line, and with it the figures of its step"
        try:
            row = parse_json(line, where)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from None
        if not isinstance(row.get("step"), int) or not all(isinstance(v, int | float | None) for v in row.values()):
            raise ValueError(f"{where}: damaged: not numbers by name with an integer `step`; {remedy}")
        yield line, row


def curves(metrics: list[dict[str, float]]) -> list[Section]:
    """Returns sections with the curves and the last values of a run's metrics."""
    sections = []
    if any("loss" in row for row in metrics):
        parts: list[Part] = [_figure(metrics, {"loss": "training"}, "loss (nats per token)", "Training loss.")]
        if any("learning_rate" in row for row in metrics):
            parts.append(_figure(metrics, {"learning_rate": "learning rate"}, "learning rate", "Learning rate."))
        sections.append(Section("Loss", parts))
    if held_out := _keys(metrics, "bits_per_byte"):
        sections.append(Section("Held-out text", list(_bits_per_byte(metrics, held_out))))
    if tasks := _keys(metrics, "tasks"):
        sections.append(Section("Benchmark tasks", list(_tasks(metrics, tasks))))
    if answers := _keys(metrics, "answer_loss"):
        names = {key: key.partition("/")[2] or "all" for key in answers[: _MAX_LINES + 1]}
        figure = _figure(metrics, names, "answer loss (nats per token)", "Held-out answers.")
        sections.append(Section("Answers", [figure]))
    if forgetting := _forgetting(metrics, held_out):
        sections.append(Section("Forgetting", forgetting))
    if any("tokens_per_second" in row for row in metrics):
        caption = "Training tokens per second."
        figure = _figure(metrics, {"tokens_per_second": "throughput"}, "tokens per second", caption, y_min=0)
        sections.append(Section("Throughput", [figure]))
    latest: dict[str, tuple[float, int]] = {}
    for row in metrics:
        latest |= {key: (value, int(row["step"])) for key, value in row.items() if key not in ("step", "time")}
    rows = [
        (metric_unit(key).head(key), metric_unit(key).scale * value, step)
        for key, (value, step) in sorted(latest.items())
    ]
    return [*sections, Section("Last values", [Table(("metric", "value", "at step"), rows)])]


def _keys(metrics: list[dict[str, float]], group: str) -> list[str]:
    """Returns the names `GROUP` and `GROUP/…` in the metrics, in order."""
    return sorted({key for row in metrics for key in row if key.partition("/")[0] == group})


def _bits_per_byte(metrics: list[dict[str, float]], keys: list[str]) -> Iterator[Part]:
    yield Paragraph(
        "Bits per byte: the loss in bits over the UTF-8 bytes of text that the model was not trained on. It does not"
        " depend on the tokenizer; lower is better."
    )
    languages = {key: name for key, name in _LANGUAGES.items() if key in keys}
    sources = {key: key.split("/", 1)[1] for key in keys if key not in _LANGUAGES}
    if languages:
        yield _figure(metrics, languages, "bits per byte", "Held-out text by language.")
    if len(sources) > _MAX_LINES:
        yield Paragraph(f"The {len(sources)} sources are too many for a figure; their last values are below.")
    elif sources:
        yield _figure(metrics, sources, "bits per byte", "Held-out text by source.")


def _tasks(metrics: list[dict[str, float]], keys: list[str]) -> Iterator[Part]:
    """Yields a figure per metric with a line per task, from `tasks/TASK/METRIC`."""
    by_metric: dict[str, dict[str, str]] = {}
    for key in keys:
        task, _, metric = key.removeprefix(_TASKS).rpartition("/")
        by_metric.setdefault(metric, {})[key] = task
    yield Paragraph("Samples of benchmark tasks, the same items each time; small models are near chance on most.")
    for metric, names in by_metric.items():
        if len(names) > _MAX_LINES:
            yield Paragraph(f"{metric}: {len(names)} tasks are too many for a figure; their last values are below.")
        else:
            unit = unit_of(metric)
            yield _figure(metrics, names, unit.head(metric), f"{metric} by task.", scale=unit.scale)


def _forgetting(metrics: list[dict[str, float]], keys: list[str]) -> list[Part]:
    """Returns the change of each bits per byte since before the first step; nothing where it was not measured then."""
    rows: list[tuple[str | float, ...]] = []
    for key in keys:
        values = [(int(row["step"]), row[key]) for row in metrics if key in row]
        (first, before), (last, after) = values[0], values[-1]
        if first == 0 < last:
            rows.append((key.split("/", 1)[1], before, after, after - before, f"{after / before - 1:+.2%}", last))
    if not rows:
        return []
    text = (
        "Bits per byte of held-out pre-training text before the first step and at the last evaluation: a rise is what"
    )
    columns = ("", "before", "after", "difference", "relative", "at step")
    return [Paragraph(f"{text} tuning made the model forget."), Table(columns, rows)]


def _figure(
    metrics: list[dict[str, float]],
    names: dict[str, str],
    y_label: str,
    caption: str,
    *,
    y_min: float | None = None,
    scale: float = 1,
) -> Figure:
    lines: dict[str, Line] = {}
    for key, name in names.items():
        points = [(row["step"], scale * row[key]) for row in metrics if key in row]
        lines[name] = [x for x, _ in points], [y for _, y in points]
    return Figure(line_plot(lines, x_label="step", y_label=y_label, y_min=y_min), caption)


def setup(workdir: Path) -> list[Section]:
    """Returns a section with the command, versions and configuration of a run, as far as its workdir has them."""
    parts: list[Part] = []
    command = _json(workdir / "command.json")
    if command:
        try:
            rows = [("command", shlex.join(command["command"])), ("git", command["git"]), ("python", command["python"])]
            dtype = [("compute dtype", command["compute_dtype"])] if "compute_dtype" in command else []
            parts.append(Table(("", ""), [*rows, *dtype, *command["versions"].items()]))
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{workdir / 'command.json'}: damaged: not in the format of a run's record; remove it"
            ) from None
    config = _json(workdir / "config.json")
    if config:
        parts.append(Details("Configuration (config.json)", json.dumps(config, indent=2, ensure_ascii=False)))
    operative = workdir / "operative_config.gin"
    if operative.exists():
        parts.append(Details("To run it again (operative_config.gin)", operative.read_text("utf-8")))
    return [Section("How it was run", parts)] if parts else []


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}

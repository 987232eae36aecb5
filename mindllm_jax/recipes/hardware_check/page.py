"""Results of the hardware check: aims, a page, and lines for docs/results/hardware.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindllm_jax.files import write_text
from mindllm_jax.recipes.hardware_check.runner import result
from mindllm_jax.recipes.hardware_check.steps import PARTS, HardwareCheck, Step, steps
from mindllm_jax.reporting.page import Details, Figure, Page, Paragraph, Part, Section, write_page
from mindllm_jax.reporting.plots import line_plot
from mindllm_jax.reporting.tables import Cell, Table

MFU_AIMS = {"mindllm_1b3": 45.0, "mindllm_3b": 48.0}
MIN_LENGTH = 8192
"""The shortest rows for which the aims compare Triton's kernels with cuDNN's."""


def write_results(config: HardwareCheck, workdir: Path) -> None:
    """Writes `page.html` and `lines.md` into the workdir from its results."""
    results = {step.name: result(workdir, step.name) for step in steps(config, workdir)}
    aims = Table(("aim", "bound", "measured", ""), list(aim_rows(results)))
    sections = [Section("Aims", [aims])]
    for number, title in enumerate(PARTS, start=1):
        parts: list[Part] = []
        for step in steps(config, workdir):
            if step.part == number:
                parts += list(_parts(step, results[step.name]))
        sections.append(Section(f"{number}. {title}", parts))
    lead = "Toy sizes on a CPU: the commands run; the figures say nothing about speed." if config.here else ""
    write_page(workdir / "page.html", Page("Hardware check", lead, sections))
    write_text(workdir / "lines.md", hardware_lines(config, workdir, results))


def aim_rows(results: dict[str, dict[str, Any]]) -> Iterator[tuple[Cell, ...]]:
    """Yields each aim with the bound, the measured value and the verdict ("not measured" without a value)."""

    def row(aim: str, bound: str, value: float | bool | None, met: bool) -> tuple[Cell, ...]:
        shown = value if isinstance(value, bool) or value is None else f"{value:.3g}"
        return aim, bound, shown, "not measured" if value is None else "met" if met else "falls short"

    numerics = _json_of(results, "numerics")
    failed = numerics.get("failed") if numerics.get("passed") else None
    yield row("failing tests of kernels", "0", failed, failed == 0)
    lines = _attention_lines(results)
    for column, least in (("forward ms", 0.6), ("both ms", 0.5)):
        ratios = [
            peer[column] / ours[column]
            for (row_kind, head, _, length), by_name in lines.items()
            if row_kind == "causal" and head == 128 and length >= MIN_LENGTH
            if (ours := by_name.get("triton")) and (peer := by_name.get("cudnn"))
        ]
        ratio = min(ratios, default=None)
        title = "forward" if column == "forward ms" else "with backward"
        yield row(
            f"Triton's speed over cuDNN's, {title}, heads of 128, causal, {MIN_LENGTH:,} and longer, the worst",
            f"{least} or more", ratio, ratio is not None and ratio >= least,
        )  # fmt: skip
    ours = lines.get(("packed 1024", 128, "16/16", MIN_LENGTH), {}).get("triton")
    peer = lines.get(("causal", 128, "16/16", MIN_LENGTH), {}).get("cudnn")
    for column, title in (("forward ms", "forward"), ("both ms", "with backward")):
        ratio = ours[column] / peer[column] if ours and peer else None
        yield row(
            f"Triton's time for packed rows (8,192, mean 1,024) over cuDNN's for causal ones, {title}",
            "0.5 or less", ratio, ratio is not None and ratio <= 0.5,
        )  # fmt: skip
    for preset, least in MFU_AIMS.items():
        mine, theirs = _mfu(results, preset)
        yield row(f"MFU of {preset}, %", f"{least:g} or more", mine, mine is not None and mine >= least)
        ratio = mine / theirs if mine and theirs else None
        yield row(
            f"speed of {preset} over transformers' with torch.compile", "1 or more", ratio, bool(ratio and ratio >= 1)
        )
    equal = (_json_of(results, "resume").get("resume") or {}).get("equal")
    yield row("a killed and resumed run equals an uninterrupted one, to the bit", "yes", equal, bool(equal))


def hardware_lines(config: HardwareCheck, workdir: Path, results: dict[str, dict[str, Any]]) -> str:
    """Returns a row for docs/results/hardware.md for each step that was run."""
    lines = []
    for step in steps(config, workdir):
        kept = results[step.name]
        if kept.get("status") not in ("done", "part", "failed"):
            continue
        subject = kept["identity"]
        versions = ", ".join(f"{name} {version}" for name, version in subject["versions"].items())
        sources = f"{subject['git'][:12]} (sources {subject['sources'][:12]})"
        device, command = f"{subject['device']}, driver {subject['driver']}", f"`{' '.join(kept['command'])}`"
        cells = (time.strftime("%Y-%m-%d"), sources, device, versions, command, _summary(step, kept))
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _json_of(results: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Returns the JSON of a step, {} if there is none."""
    value = results.get(name, {}).get("result")
    return value if isinstance(value, dict) else {}


def _attention_lines(results: dict[str, dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, dict[str, Any]]]:
    """Returns the lines of attention by problem and implementation, those with tuned tiles if both were measured."""
    lines: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for name in ("attention_64", "attention_more", "attention_128", "attention_tuned"):
        for line in _json_of(results, name).get("lines", []):
            if not line["why not"]:
                problem = (line["row"], line["head"], line["heads"], line["length"])
                lines.setdefault(problem, {})[line["implementation"]] = line
    return lines


def _mfu(results: dict[str, dict[str, Any]], preset: str) -> tuple[float | None, float | None]:
    """Returns the best MFU of ours and of the peer, in percent."""
    lines = _json_of(results, f"steps_{preset.removeprefix('mindllm_')}").get("lines", [])
    ours = [x["MFU %"] for x in lines if x["MFU %"] is not None and x["what"].startswith("ours")]
    peers = [x["MFU %"] for x in lines if x["MFU %"] is not None and not x["what"].startswith("ours")]
    return max(ours, default=None), max(peers, default=None)


def _summary(step: Step, kept: dict[str, Any]) -> str:
    """Returns one phrase about the result of a step."""
    values = kept["result"] if isinstance(kept["result"], dict) else {}
    how = {"done": "", "part": "cut; ", "failed": f"failed ({kept['reason']}); "}[kept["status"]]
    if "passed" in values:
        return f"{how}{values['passed']} tests passed, {values['failed']} failed, {values['skipped']} skipped"
    if "tokens/s" in (run := values.get("run") or {}):
        return f"{how}{run['tokens/s']:,.0f} tokens/s, loss {run['last loss']:.3f} after {run['steps']} steps"
    if "equal" in (resume := values.get("resume") or {}):
        return f"{how}{resume['steps']} steps, {'equal to the bit' if resume['equal'] else 'losses differ'}"
    return f"{how}{len(values.get('lines', []))} lines" if "lines" in values else f"{how}{step.title}"


def _parts(step: Step, kept: dict[str, Any]) -> Iterator[Part]:
    """Yields the parts of the page for a step."""
    if not kept:
        yield Paragraph(f"{step.title} ({step.name}): not run.")
        return
    subject = kept["identity"]
    reason = f" ({kept['reason']})" if kept.get("reason") else ""
    of = f"{subject['device']}; commit {subject['git'][:12]}, sources {subject['sources'][:12]}"
    yield Paragraph(f"{step.title} ({step.name}): {kept['status']}{reason}. {of}; {' '.join(kept['command'])}")
    values = kept.get("result")
    if isinstance(values, dict):
        yield from _tables(values)
        if curve := (values.get("run") or {}).get("curve"):
            x, y = zip(*curve, strict=True)
            yield Figure(line_plot({"loss": (x, y)}, x_label="step", y_label="loss"), "Loss of the training run.")
    if kept.get("output"):
        yield Details("end of its output", kept["output"])


def _tables(values: dict[str, Any]) -> Iterator[Table]:
    """Yields tables of plain values, objects of them and lists of objects."""
    plain = {name: value for name, value in values.items() if not isinstance(value, list | dict)}
    plain.pop("complete", None)
    if plain:
        yield Table(("", ""), [(name, _cell(value)) for name, value in plain.items()])
    for name, value in values.items():
        if not value or name in ("identity", "tests"):
            continue
        if isinstance(value, dict):
            yield Table(("", name), [(key, _cell(x)) for key, x in value.items() if not isinstance(x, list)])
        elif isinstance(value, list):
            yield Table(tuple(value[0]), [tuple(map(_cell, row.values())) for row in value])


def _cell(value: Any) -> Cell:
    return value if isinstance(value, Cell) else str(value)

"""The plan that is printed before a suite runs, and the files that are written afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group

from mindllm_jax.ablations.claims import ledger, read_claims, read_verdicts, write_verdicts
from mindllm_jax.ablations.plan import Run
from mindllm_jax.ablations.report import write_report
from mindllm_jax.ablations.results import Results, suite_results
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Cell, Table


def plan_table(suite: Suite, runs: Sequence[Run]) -> Group:
    """Returns the suite's plan for the terminal: runs, tokens, FLOPs, what is done, and what can be detected."""
    results = suite_results(suite, runs)
    rows: list[list[Cell]] = []
    for variant in suite.variants:
        cost = next(run for run in runs if run.variant == variant).config.spec().cost
        done = len(results.records[variant])
        flops = cost.flops * suite.seeds
        rows.append([variant, cost.parameters, cost.tokens, suite.seeds, done, f"{flops:.2e}"])
    columns = ("variant", "parameters", "tokens a run", "seeds", "done", "FLOPs of all seeds")
    notes = [
        f"{count} records are of another version of data or code, {version}, and left out"
        for version, count in results.others.items()
    ]
    records = results.all_records
    if records and results.missing:
        seconds = sum(record.seconds for record in records) / len(records) * results.missing
        notes.append(
            f"{results.missing} runs are left: about {seconds / 60:.0f} min at the speed of those that are done"
        )
    return Group(Table(columns, rows, suite.title).terminal(), *_power(suite, results), *notes)


def write_results(suite: Suite, name: str, runs: Sequence[Run]) -> list[Path]:
    """Writes the report of a suite and the ledger of claims; returns the paths."""
    results, claims = suite_results(suite, runs), read_claims()
    if results.missing == len(runs):
        raise ValueError(f"{suite.records} holds no record of {suite.title!r}; nothing was written")
    read_verdicts(Path(suite.results))  # a damaged file is named before anything is written
    verdicts: dict[str, list[str]] = {}
    unfinished = f", {results.missing} runs missing" if results.missing else ""
    for test in results.tested:
        if (claim := test.expectation.get("claim")) and test.difference:
            value = test.difference.interval
            found = test.verdict(test.expectation.get("claimed", test.expectation["direction"]))
            failed = f", {test.failed} failed" if test.failed else ""
            against, measure = suite.against(test.expectation), test.expectation["measure"]
            verdicts.setdefault(claim, []).append(
                f"{found}: {test.expectation['variant']} against {against}, {measure} {value.mean:+.4f}"
                f" ({value.low:+.4f} to {value.high:+.4f}, {value.seeds} seeds{unfinished}{failed})"
            )
    for one in results.predicted:
        if (claim := one.extrapolation.get("claim")) and one.prediction and one.measured:
            verdicts.setdefault(claim, []).append(
                f"{one.verdict}: {one.extrapolation['variant']}, {one.extrapolation['measure']} predicted"
                f" {one.prediction.value:.4f} ({one.prediction.low:.4f} to {one.prediction.high:.4f}), measured"
                f" {one.measured.mean:.4f} ({one.measured.seeds} seeds{unfinished}"
                + (f", {one.failed} failed)" if one.failed else ")")
            )
    folder = Path(suite.results)
    paths = write_report(suite, name, results, claims)
    if suite.scale == "smoke":  # its figures mean nothing
        return paths
    recorded = read_verdicts(folder) | {f"{name}, {suite.scale}": verdicts}  # another suite may end at the same time
    write_verdicts(folder, recorded)
    write_text(Path(suite.ledger), ledger(claims, recorded))
    return [*paths, Path(suite.ledger)]


def _power(suite: Suite, results: Results) -> list[str]:
    """Returns the detectable difference of each measure."""
    lines = []
    for measure, smallest in results.detectable.items():
        if not math.isfinite(smallest):
            lines.append(f"{measure}: the baseline needs two seeds or more before a detectable difference is known")
            continue
        lines.append(f"{measure}: {suite.seeds} seeds are expected to detect a difference of {smallest:.4f}")
    return lines

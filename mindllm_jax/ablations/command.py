"""The plan that is printed before a suite runs, and the files that are written afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group

from mindllm_jax.ablations.claims import ledger, read_claims, read_verdicts, write_verdicts
from mindllm_jax.ablations.plan import Run
from mindllm_jax.ablations.report import FIRST_RECORD, number, write_report
from mindllm_jax.ablations.results import Results, suite_results
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.configuration.bindings import Bindings
from mindllm_jax.files import write_text
from mindllm_jax.locks import lock_folder
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.reporting.units import PER_CENT, metric_unit

WAIT = 120.0
"""Seconds that a suite waits for another to write its results; the lock of a host that died is released by then."""


def require_of_suite(suite: Suite, bindings: Bindings) -> None:
    """Raises ValueError for settings that no suite has, as `Loop.steps`: no run would take them."""
    if others := bindings.unused:
        first = others[0]
        settings = (*suite.settings, *(f"{one.owner}.{one.field}={one.value}" for one in others))
        raise ValueError(
            f"{first.where}: {first.owner}.{first.field} is of no suite: all runs take it by"
            f' --gin.Suite.settings="{settings}"'
        )


def require_own_table(suite: Suite, name: str, runs: Sequence[Run]) -> None:
    """Raises ValueError where the table that would be replaced was made from none of the suite's runs.

    Such a table is of another text or model, as the committed one for a suite that has other `Suite.settings`.
    """
    table = Path(suite.results) / f"{name}.{suite.scale}.md"
    if not table.exists():
        return
    text = table.read_text(encoding="utf-8")
    if any(f" {FIRST_RECORD} {run.settings}-" in text for run in runs):
        return
    raise ValueError(
        f"{table} names no record of this suite's settings, so it has other results: set Suite.records, Suite.results"
        " and Suite.ledger to places of yours, or remove it"
    )


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
    """Writes the report of a suite and the ledger of claims; returns the paths.

    Raises ValueError where nothing can be compared: no variant but the baseline has a record; and as
    `require_own_table`.
    """
    results, claims, folder = suite_results(suite, runs), read_claims(), Path(suite.results)
    if not any(found for variant, found in results.records.items() if variant != suite.baseline):
        raise ValueError(
            f"{suite.records} holds no record of {suite.title!r} but of its baseline; nothing was written"
            if results.all_records
            else f"{suite.records} holds no record of {suite.title!r}; nothing was written"
        )
    require_own_table(suite, name, runs)
    with lock_folder(folder, user="another ablate.py", otherwise="run --tables later", wait=WAIT):
        recorded = read_verdicts(folder)  # a damaged file is named before anything is written
        paths = write_report(suite, name, results, claims)
        if suite.scale == "smoke":  # its figures mean nothing
            return paths
        recorded[f"{name}, {suite.scale}"] = _verdicts(suite, results)
        write_verdicts(folder, recorded)
        write_text(Path(suite.ledger), ledger(claims, recorded))
    return [*paths, Path(suite.ledger)]


def _verdicts(suite: Suite, results: Results) -> dict[str, list[str]]:
    """Returns the verdicts of a suite as lines by claim id."""
    verdicts: dict[str, list[str]] = {}
    unfinished = f", {results.missing} runs missing" if results.missing else ""
    for test in results.tested:
        expectation = test.expectation
        if not (claim := expectation.get("claim")):
            continue
        found = test.verdict(expectation.get("claimed", expectation["direction"]))
        late = ", added after the runs" if expectation.get("after_runs") else ""
        line = f"{found}: {expectation['variant']} against {suite.against(expectation)}, {expectation['measure']}"
        failed = f", {test.failed} failed" if test.failed else ""
        if test.difference is None:
            line += failed
        else:
            value, unit = test.difference.interval, metric_unit(expectation["measure"])
            bounds = f"{number(value.low, unit, '+')} to {number(value.high, unit, '+')}, " if value.seeds > 1 else ""
            points = " points" if unit is PER_CENT else ""
            line += f" {number(value.mean, unit, '+')}{points} ({bounds}{value.seeds} seeds{unfinished}{failed})"
        verdicts.setdefault(claim, []).append(line + late)
    for one in results.predicted:
        if claim := one.extrapolation.get("claim"):
            line = f"{one.verdict}: {one.extrapolation['variant']}, {one.extrapolation['measure']}"
            if one.prediction and one.measured:
                failed = f", {one.failed} failed" if one.failed else ""
                line += (
                    f" predicted {one.prediction.text}, measured {number(one.measured.mean)}"
                    f" ({one.measured.seeds} seeds{unfinished}{failed})"
                )
            verdicts.setdefault(claim, []).append(line)
    return verdicts


def _power(suite: Suite, results: Results) -> list[str]:
    """Returns the detectable difference of each measure."""
    lines = []
    for measure, smallest in results.detectable.items():
        if not math.isfinite(smallest):
            lines.append(f"{measure}: the baseline needs two seeds or more before a detectable difference is known")
            continue
        lines.append(f"{measure}: {suite.seeds} seeds are expected to detect a difference of {smallest:.4f}")
    return lines

"""Runs the runs of a suite that have no record, one after another; what was cut resumes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import jax

from mindllm_jax.ablations.estimate import STEPS, Speed, told
from mindllm_jax.ablations.plan import Run
from mindllm_jax.ablations.records import Record, curves, read_records, record_name, write_record
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.instruct.domains.labels import LABEL_SCORES
from mindllm_jax.reporting.run import read_metrics
from mindllm_jax.run_records import git_sha, versions
from mindllm_jax.training.checkpoint import SAVED
from mindllm_jax.training.dtype_cache import processor
from mindllm_jax.training.loop import Diverged

MEASURES = ("bits_per_byte", "answer_loss", "answer_accuracy", "tasks", *LABEL_SCORES)
"""Metrics, or their groups, that records keep beside the training loss."""


def run_missing(suite: Suite, runs: list[Run], workdir: Path, log: Callable[[str], None]) -> None:
    """Trains the runs of `Suite.share` that have no record, each in a folder of `workdir`, and writes their records.

    A run that diverges has a record that says so. The checkpoints of a run are removed when it has a record. Raises
    KeyboardInterrupt after a requested stop: the same command resumes the run that was cut.
    """
    folder = Path(suite.records)
    records, commit = read_records(folder), git_sha()
    index, count = suite.share
    runs = [run for run in runs if int(run.settings, 16) % count == index]
    missing = [run for run in runs if run.version not in records.get(run.settings, {})]
    for run in (run for run in runs if run not in missing):
        _remove_checkpoints(workdir / f"{run.settings}-{run.version}")
    log(f"{len(runs)} runs, {len(runs) - len(missing)} of them done")
    tokens = [run.config.spec().cost.tokens for run in missing]
    total, done, seconds = sum(tokens), 0, 0.0

    def tell(found: Speed) -> None:
        steps = total / tokens[0] * missing[0].config.loop.steps  # of the first run's size
        minutes = found.seconds(len(missing), steps) / 60
        log(f"--- about {minutes:.0f} min for {len(missing)} runs, by {STEPS} steps and without evaluations")

    for number, (run, own) in enumerate(zip(missing, tokens, strict=True), start=1):
        left = f", about {seconds * (total - done) / done / 60:.0f} min left" if done else ""
        log(f"\n--- {number} of {len(missing)}: {run.variant}, seed {run.seed}{left}")
        if (folder / record_name(run.settings, run.version)).exists():
            log("trained by another process in the meantime")
            total -= own
            continue
        run_folder = workdir / f"{run.settings}-{run.version}"
        with nullcontext() if done else told(run_folder, tell):
            record = _train(suite, run, run_folder, commit)
        write_record(folder, record)
        _remove_checkpoints(run_folder)
        done, seconds = done + own, seconds + record.seconds


def _remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a recorded run: nothing reads them, and 54 models of 47M parameters fill 30 GB."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / SAVED).unlink(missing_ok=True)


def _train(suite: Suite, run: Run, folder: Path, commit: str) -> Record:
    started, reason = time.monotonic(), ""
    try:
        run.trainer.train(run.arguments, run.text, folder)
    except Diverged as error:
        reason = str(error)
    metrics = read_metrics(folder)
    cost = run.config.spec().cost
    return Record(
        settings=run.settings,
        version=run.version,
        status="failed" if reason else "done",
        reason=reason,
        suite=suite.title,
        variant=run.variant,
        seed=run.seed,
        scale=suite.scale,
        commit=commit,
        command=run.command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=processor() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind,
        versions=versions(),
        parameters=cost.parameters,
        tokens=cost.tokens,
        flops=cost.flops,
        seconds=round(time.monotonic() - started, 1),
        curves=curves(metrics, MEASURES),
    )

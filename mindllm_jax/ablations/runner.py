"""Runs the runs of a suite that have no record and that no other process trains; what was cut resumes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import jax

from mindllm_jax.ablations.estimate import STEPS, Speed, told
from mindllm_jax.ablations.plan import Run
from mindllm_jax.ablations.records import Record, curves, read_records, record_name, write_record
from mindllm_jax.ablations.suite import Suite
from mindllm_jax.instruct.domains.labels import LABEL_SCORES
from mindllm_jax.locks import InUse, lock_folder
from mindllm_jax.reporting.run import read_metrics
from mindllm_jax.run_records import git_sha, versions
from mindllm_jax.training.checkpoint import SAVED
from mindllm_jax.training.dtype_cache import processor
from mindllm_jax.training.loop import Diverged

MEASURES = ("bits_per_byte", "answer_loss", "answer_accuracy", "tasks", *LABEL_SCORES)
"""Metrics, or their groups, that records keep beside the training loss."""
CLAIMS = "claims"
"""Folder of a lock for each run that a process trains, in the workdir of all."""


def run_missing(suite: Suite, runs: list[Run], workdir: Path, log: Callable[[str], None]) -> list[Run]:
    """Trains the runs that have no record, each in a folder of `workdir`, and writes their records.

    Several processes with the same `workdir` share the runs: each takes the next that no other trains. Returns those
    that others still train when nothing is left to take.

    A run that diverges has a record that says so. The checkpoints of a run are removed when it has a record. Raises
    KeyboardInterrupt after a requested stop: the same command resumes the run that was cut.
    """
    if jax.process_count() > 1:
        raise ValueError("a run of a suite is of one process: start ablate.py as often as runs shall train at a time")
    folder = Path(suite.records)
    records, commit = read_records(folder), git_sha()
    left = [run for run in runs if run.version not in records.get(run.settings, {})]
    for run in (run for run in runs if run not in left):
        _remove_checkpoints(workdir / f"{run.settings}-{run.version}")
    log(f"{len(runs)} runs, {len(runs) - len(left)} of them done")
    tokens = {run.settings: run.config.spec().cost.tokens for run in left}
    done, seconds, others = 0, 0.0, list[Run]()  # done: tokens of the runs that this process has trained
    while left:
        before = done
        for number, run in enumerate(left):
            name = f"{run.settings}-{run.version}"
            claim = lock_folder(workdir / CLAIMS / name, user="another ablate.py", otherwise="train others", wait=0)
            try:
                with claim:
                    if (folder / record_name(run.settings, run.version)).exists():  # of another process
                        continue
                    own, ahead = tokens[run.settings], sum(tokens[one.settings] for one in left[number:])
                    minutes = f", about {seconds * ahead / done / 60:.0f} min left" if done else ""
                    log(f"\n--- {number + 1} of {len(left)}: {run.variant}, seed {run.seed}{minutes}")
                    steps = ahead / own * run.config.loop.steps
                    tell = partial(_tell, log, len(left) - number, steps)
                    with nullcontext() if done else told(workdir / name, tell):
                        record = _train(suite, run, workdir / name, commit)
                    write_record(folder, record)
                    _remove_checkpoints(workdir / name)
                    done, seconds = done + own, seconds + record.seconds
            except InUse:
                others.append(run)
        if done == before:
            break
        left, others = others, []
    return others


def _tell(log: Callable[[str], None], runs: int, steps: float, found: Speed) -> None:
    """Logs the time of so many runs, of so many steps in total."""
    minutes = found.seconds(runs, steps) / 60
    log(f"--- about {minutes:.0f} min for {runs} runs, by {STEPS} steps and without evaluations")


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

"""Runs the steps of the hardware check: each in a process with a time limit; results are written immediately."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mindllm_jax.files import read_json, write_text
from mindllm_jax.parallel.local_processes import end_with_parent
from mindllm_jax.recipes.hardware_check.machine import digest, gpu, identity
from mindllm_jax.recipes.hardware_check.steps import HardwareCheck, Step, obstacle, steps

ROOT = Path(__file__).parents[3]
GRACE = 45.0
"""Seconds between the `--limit` of a benchmark and the time at which its process is ended."""


def run_steps(config: HardwareCheck, workdir: Path, log: Callable[[str], None], after: Callable[[], None]) -> bool:
    """Runs the steps that are not done, or those in `HardwareCheck.only`; returns whether all that can run are done.

    A failed step is run again only if it is named. Results of other sources, versions or hardware are ignored. after:
    called after each step.

    Raises ValueError without a GPU unless `HardwareCheck.here` is set, KeyboardInterrupt after SIGINT or SIGTERM;
    finished measurements are kept.
    """
    if not config.here and gpu() is None:
        raise ValueError(
            "nvidia-smi finds no NVIDIA GPU, and nothing was run: `make gpu HERE=1` tries all commands on the CPU"
        )
    until = time.monotonic() + 60 * config.minutes
    complete = True
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for step in steps(config, workdir):
        if config.only and step.name not in config.only:
            continue
        status = status_of(workdir, step.name)
        if status == "done" and not step.rerun:
            log(f"--- {step.name}: done")
            continue
        if status == "failed" and not config.only:
            log(f"--- {step.name}: failed before; name it in HardwareCheck.only to try it again")
            complete = False
            continue
        reason = obstacle(step, config, workdir)
        if step.after and status_of(workdir, step.after) != "done":
            reason = f"{step.after} is not done"
        left = min(60 * step.minutes, until - time.monotonic())
        if reason is None and left < GRACE + 60 * step.min_minutes:
            log(f"--- {step.name}: no time left; run the same command again")
            complete = False
            continue
        if reason is not None:
            log(f"--- {step.name}: left out: {reason}")
            outcome = {"status": "left out", "reason": reason}
        else:
            log(f"\n--- {step.name}: {step.title} (at most {left / 60:.1f} min)\n$ {' '.join(shown(step))}")
            outcome = _run_command(step, workdir, left)
            reason = f": {outcome['reason']}" if outcome["reason"] else ""
            log(f"    {outcome['status']} after {outcome['seconds']:.0f} s{reason}")
        complete &= outcome["status"] in ("done", "left out")
        subject = identity() | ({"git": config.commit} if config.commit else {})
        record = {"step": step.name, "digest": digest(), "identity": subject, "command": shown(step)}
        write_text(workdir / f"{step.name}.json", json.dumps(record | outcome, indent=1, ensure_ascii=False) + "\n")
        try:
            after()
        except Exception as error:  # a failing page does not stop the measurements
            log(f"    the page was not written: {error!r}")
    return complete


def shown(step: Step) -> list[str]:
    """Returns the command as one types it in the project's folder."""
    return ["python", *(word.removeprefix(f"{ROOT}/") for word in step.command)]


def status_of(workdir: Path, name: str) -> str | None:
    """Returns the status of a step; None without a result, or with one of other sources, versions or hardware."""
    record = result(workdir, name)
    return record["status"] if record.get("digest") == digest() else None


def result(workdir: Path, name: str) -> dict[str, Any]:
    """Returns the recorded result of a step; {} if there is none or its file is damaged."""
    try:
        return read_json(workdir / f"{name}.json")
    except (FileNotFoundError, ValueError):
        return {}


def _run_command(step: Step, workdir: Path, seconds: float) -> dict[str, Any]:
    """Runs a step's command; returns "status" ("done", "part" or "failed"), reason, text and JSON."""
    words = [sys.executable, *step.command]
    if step.resumable:
        words += ["--limit", f"{max(1.0, seconds - GRACE):.0f}", "--lines", str(workdir / f"{step.name}.jsonl")]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # the project may not be installed
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    # A new session, so that its child processes end with it.
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", errors="replace", start_new_session=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    output: list[str] = []
    errors: list[str] = []
    readers = [
        threading.Thread(target=_read, args=(process.stdout, output, False)),
        threading.Thread(target=_read, args=(process.stderr, errors, True)),
    ]
    for reader in readers:
        reader.start()
    cut = False
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        cut = True
    finally:
        _end(process)
        for reader in readers:
            reader.join()
    taken = time.monotonic() - started
    *text, last = output or [""]
    parsed: Any = None
    try:
        parsed = json.loads(last)
    except ValueError:
        text.append(last)
    markdown = "".join(text).strip()
    if process.returncode == 0 and isinstance(parsed, dict):
        status = "done" if parsed.get("complete", True) else "part"
        reason = "" if status == "done" else "time limit reached; the same command resumes"
    else:
        status = "part" if cut and step.resumable else "failed"
        reason = f"ended after its limit of {seconds:.0f} s" if cut else f"status {process.returncode}"
    kept = {"status": status, "reason": reason, "seconds": taken, "result": parsed, "markdown": markdown}
    return kept if status != "failed" else kept | {"output": "".join(errors)[-4000:]}


def _read(stream: Any, lines: list[str], show: bool) -> None:
    for line in stream:
        lines.append(line)
        if show:
            print(f"    {line.rstrip()[:160]}", flush=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process, if it still runs, and its child processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)

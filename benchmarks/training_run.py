"""Trains for minutes and measures speed and loss; checks that a killed and resumed run equals an uninterrupted one.

python benchmarks/training_run.py --store STORE --workdir DIR [--parts run,resume] [--seconds 300] [--attention triton]
    [--lines FILE] [--limit SECONDS] [--here]

The run is configs/pretrain/hardware_check.gin through launch/train.py, stopped by SIGTERM --seconds after its first
logged step; an existing run resumes from its latest checkpoint. Then 60 steps twice with deterministic kernels: once
uninterrupted, once killed after its first checkpoint and resumed; the losses of all steps have to be equal to the last
bit. --here takes a small model, and without --store the documents of tests/fixtures. Prints tables and JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindllm_jax.parallel.local_processes import end_with_parent
from mindllm_jax.recipes.hardware_check.kept import Kept, TimeUp
from mindllm_jax.reporting.run import metrics_lines

ROOT = Path(__file__).parents[1]
CONFIG = "configs/pretrain/hardware_check.gin"
# Autotuning may choose another kernel, with another order of summation, in another process.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
RESUMED = {"Loop.steps": 60, "Loop.log_every": 1, "Loop.evaluate_every": 1000, "Checkpointing.every_steps": 20}
SMALL = {
    "Model.layers": 2, "Model.width": 64, "Model.heads": 1, "Model.mlp_dim": 128, "Model.vocab_size": 1000,
    "Model.max_seq_len": 32, "Model.compute_dtype": "float32", "Mixture.sequence_length": 32,
    "Loop.global_batch_size": 8,
}  # fmt: skip
POINTS = 200
"""The most points of a curve."""


def small_store(folder: Path) -> str:
    """Builds a token store of the documents in tests/fixtures and returns its path."""
    from mindllm_jax.store.writer import SourceDocuments, build_store
    from mindllm_jax.text.documents import Document
    from mindllm_jax.tokenization.tokenizer import Tokenizer

    fixtures = ROOT / "tests/fixtures"
    rows = [json.loads(line) for line in (fixtures / "documents.jsonl").read_text(encoding="utf-8").splitlines()]
    documents_by_source: dict[tuple[str, str], list[Document]] = {}
    for row in rows:
        documents = documents_by_source.setdefault((row["source"], row["lang"]), [])
        documents.append(Document(row["text"], row["source"], row["lang"], row["id"]))
    sources = [
        SourceDocuments(name, language, {}, lambda documents=documents: documents)
        for (name, language), documents in documents_by_source.items()
    ]
    build_store(str(folder), sources, Tokenizer.load(fixtures / "tokenizer.model"), held_out=0.2)
    return str(folder)


class Training:
    """Starts launch/train.py with common settings."""

    def __init__(self, settings: dict[str, Any], environment: dict[str, str]):
        self._settings, self._environment = settings, environment

    def start(self, workdir: Path, **settings: Any) -> subprocess.Popen[bytes]:
        """Starts a process that trains in the workdir; its output is appended to WORKDIR.output."""
        words = [f"--gin.{name}={value}" for name, value in {**self._settings, **settings}.items()]
        command = [sys.executable, "launch/train.py", "--gin", CONFIG, *words, "--workdir", str(workdir)]
        workdir.parent.mkdir(parents=True, exist_ok=True)
        with workdir.with_suffix(".output").open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )


def wait(process: subprocess.Popen[bytes], workdir: Path, seconds: float, *, stop: int = signal.SIGKILL) -> bool:
    """Waits for the process and signals it after `seconds`; returns whether it ended by itself.

    Raises RuntimeError with the end of its output if it failed.
    """
    try:
        try:
            process.wait(seconds)
            by_itself = True
        except subprocess.TimeoutExpired:
            process.send_signal(stop)
            process.wait(120)
            by_itself = False
    finally:
        process.kill()  # no effect if it has ended
    if process.returncode not in (0, 130, -stop):
        end = workdir.with_suffix(".output").read_text(encoding="utf-8", errors="replace")[-1500:]
        raise RuntimeError(f"launch/train.py ended with status {process.returncode}:\n{end}")
    return by_itself


def metrics(workdir: Path) -> list[dict[str, float]]:
    """Returns the rows of metrics.jsonl, none without the file; values that were not finite are NaN."""
    path = workdir / "metrics.jsonl"
    rows = [row for _, row in metrics_lines(path)] if path.exists() else []
    return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]


def trained(training: Training, workdir: Path, seconds: float, left: float) -> dict[str, Any]:
    """Trains and returns speed, loss curve and bits per byte. Raises TimeUp if `left` seconds are too few."""
    started = time.monotonic()
    before, process = len(metrics(workdir)), training.start(workdir)
    while process.poll() is None and len(metrics(workdir)) == before and time.monotonic() - started < left:
        time.sleep(0.1)
    first = time.monotonic()
    by_itself = wait(process, workdir, min(seconds, started + left - first), stop=signal.SIGTERM)
    wall = time.monotonic() - first
    if not by_itself and wall < seconds:
        raise TimeUp
    rows = metrics(workdir)
    steps = [row for row in rows if "loss" in row]
    curve = [(int(row["step"]), row["loss"]) for row in steps]
    speed = steps[len(steps) // 4 :]  # without the first quarter
    bits = {name: row[name] for row in rows for name in ("bits_per_byte/zh", "bits_per_byte/en") if name in row}
    return {
        "steps": curve[-1][0],
        "tokens": steps[-1]["tokens"],
        "wall s": wall,
        "tokens/s": statistics.median(row["tokens_per_second"] for row in speed),
        "mfu": statistics.median(row["mfu"] for row in speed) if "mfu" in speed[-1] else None,
        "first loss": curve[0][1],
        "last loss": curve[-1][1],
        "curve": curve[:: math.ceil(len(curve) / POINTS)],
        **bits,
    }


def resumed(training: Training, folder: Path, left: float) -> dict[str, Any]:
    """Compares the losses of a killed and resumed run with an uninterrupted one. Raises TimeUp."""
    uninterrupted, killed = folder / "uninterrupted", folder / "killed"
    deadline = time.monotonic() + left

    def remaining() -> float:
        return min(1e6, deadline - time.monotonic())

    for workdir in (uninterrupted, killed):
        shutil.rmtree(workdir, ignore_errors=True)
    if not wait(training.start(uninterrupted, **RESUMED), uninterrupted, remaining()):
        raise TimeUp
    process = training.start(killed, **RESUMED)
    while process.poll() is None and remaining() > 0:
        if (killed / "latest_checkpoint.json").exists():
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    after = int(max((row["step"] for row in metrics(killed)), default=0))
    if not wait(training.start(killed, **RESUMED), killed, remaining()):
        raise TimeUp
    first, second = ({row["step"]: row["loss"] for row in metrics(w) if "loss" in row} for w in (uninterrupted, killed))
    if not 0 < after < RESUMED["Loop.steps"]:
        raise RuntimeError(f"the run was killed after step {after}, not between its first checkpoint and its end")
    differences = [abs(first[step] - second[step]) for step in first if step in second]
    return {
        "steps": len(first),
        "killed after": after,
        "equal": first == second,
        "largest difference": max(differences, default=None),
    }


def main() -> None:
    """Runs the parts and prints their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a token store; required without --here")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--parts", default="run,resume")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--attention", help="implementation of attention; the default of this machine")
    parser.add_argument("--lines", type=Path, help="file of finished measurements, to resume from")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds")
    parser.add_argument("--here", action="store_true", help="a small model, to try the benchmark on any machine")
    arguments = parser.parse_args()
    if not (arguments.store or arguments.here):
        parser.error("give a token store: --store DIR")
    from mindllm_jax.reporting.tables import Table

    workdir = arguments.workdir.resolve()
    store = arguments.store and str(Path(arguments.store).resolve())
    if not store:  # an existing store keeps its sources
        store = small_store(workdir / "store")
    settings = {"Mixture.store": store} | (SMALL if arguments.here else {})
    if arguments.attention:
        settings["Model.attention"] = arguments.attention
    kept = Kept(arguments.lines, arguments.limit)
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    parts: dict[str, Callable[[], Any]] = {
        "run": lambda: trained(Training(settings, {}), workdir / "run", arguments.seconds, kept.left()),
        "resume": lambda: resumed(Training(settings, {"XLA_FLAGS": flags}), workdir / "resume", kept.left()),
    }
    results = {
        name: kept.measure((name, store, arguments.attention, arguments.seconds), parts[name])
        for name in arguments.parts.split(",")
    }
    for name, part in results.items():
        if part is not None:
            rows = [(key, str(value)) for key, value in part.items() if key != "curve"]
            print(Table(("", name), rows).markdown())
    print(json.dumps({"complete": kept.complete, **results}))


if __name__ == "__main__":
    main()

"""A training run of minutes, its loss curve and speed; and whether a run that is killed and resumed is the same run.

python benchmarks/training_run.py --store STORE --workdir DIR [--parts run,resume] [--seconds 300] [--attention triton]
    [--lines FILE] [--limit SECONDS] [--here]

The run is configs/pretrain/hardware_check.gin through launch/train.py, stopped by SIGTERM so many seconds after its
first logged step; a run that is there already resumes from its checkpoint. Then 60 steps twice with deterministic
kernels: once straight through, once killed after its first checkpoint and run again; the losses of all steps have to be
equal to the last bit. --here takes a small model, and without --store the documents of tests/fixtures. Prints tables
and JSON.
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
# Autotuning may choose another kernel in another process, with another order of sums.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
RESUMED = {"Loop.steps": 60, "Loop.log_every": 1, "Loop.evaluate_every": 1000, "Checkpointing.every_steps": 20}
SMALL = {
    "Model.layers": 2, "Model.width": 64, "Model.heads": 1, "Model.mlp_dim": 128, "Model.vocab_size": 1000,
    "Model.max_seq_len": 32, "Model.compute_dtype": "float32", "Mixture.sequence_length": 32,
    "Loop.global_batch_size": 8,
}  # fmt: skip
POINTS = 200
"""Of a curve at most."""


def small_store(folder: Path) -> str:
    """A token store of the few documents that the tests have."""
    from mindllm_jax.store.writer import SourceDocuments, build_store
    from mindllm_jax.text.documents import Document
    from mindllm_jax.tokenization.tokenizer import Tokenizer

    fixtures = ROOT / "tests/fixtures"
    rows = [json.loads(line) for line in (fixtures / "documents.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[tuple[str, str], list[Document]] = {}
    for row in rows:
        of_source = found.setdefault((row["source"], row["lang"]), [])
        of_source.append(Document(row["text"], row["source"], row["lang"], row["id"]))
    sources = [
        SourceDocuments(name, language, {}, lambda documents=documents: documents)
        for (name, language), documents in found.items()
    ]
    build_store(str(folder), sources, Tokenizer.load(fixtures / "tokenizer.model"), held_out=0.2)
    return str(folder)


class Training:
    """Calls of launch/train.py with common settings."""

    def __init__(self, settings: dict[str, Any], environment: dict[str, str]):
        self._settings, self._environment = settings, environment

    def start(self, workdir: Path, **settings: Any) -> subprocess.Popen[bytes]:
        """A process that trains in the workdir; its output goes into the file `output` beside it."""
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
    """Waits for the process, and after so many seconds ends it; returns whether it ended by itself.

    Raises RuntimeError with the end of its output where it failed.
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
        process.kill()  # nothing, where it has ended
    if process.returncode not in (0, 130, -stop):
        end = workdir.with_suffix(".output").read_text(encoding="utf-8", errors="replace")[-1500:]
        raise RuntimeError(f"launch/train.py ended with status {process.returncode}:\n{end}")
    return by_itself


def metrics(workdir: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, none where there is none yet; what was not finite is NaN."""
    path = workdir / "metrics.jsonl"
    rows = [row for _, row in metrics_lines(path)] if path.exists() else []
    return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]


def trained(training: Training, workdir: Path, seconds: float, left: float) -> dict[str, Any]:
    """The run of minutes: speed, loss curve and bits per byte. Raises TimeUp where `left` seconds are too few."""
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
    speed = steps[len(steps) // 4 :]  # without the first ones
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
    """Whether the losses of a killed and resumed run are those of one that was not. Raises TimeUp."""
    straight, killed = folder / "straight", folder / "killed"
    until = time.monotonic() + left

    def remaining() -> float:
        return min(1e6, until - time.monotonic())

    for workdir in (straight, killed):
        shutil.rmtree(workdir, ignore_errors=True)
    if not wait(training.start(straight, **RESUMED), straight, remaining()):
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
    first, second = ({row["step"]: row["loss"] for row in metrics(w) if "loss" in row} for w in (straight, killed))
    if not 0 < after < RESUMED["Loop.steps"]:
        raise RuntimeError(f"the run was to be killed between its first checkpoint and its end, and was after {after}")
    differences = [abs(first[step] - second[step]) for step in first if step in second]
    return {
        "steps": len(first),
        "killed after": after,
        "equal": first == second,
        "largest difference": max(differences, default=None),
    }


def main() -> None:
    """Trains, kills, resumes, and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a token store; needed but for --here")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--parts", default="run,resume")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--attention", help="implementation of attention; the default of this machine")
    parser.add_argument("--lines", type=Path, help="a file that keeps what was measured, to resume from")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds")
    parser.add_argument("--here", action="store_true", help="a small model, to try the benchmark on any machine")
    arguments = parser.parse_args()
    if not (arguments.store or arguments.here):
        parser.error("give a token store: --store DIR")
    from mindllm_jax.reporting.tables import Table

    workdir = arguments.workdir.resolve()
    store = arguments.store and str(Path(arguments.store).resolve())
    if not store:  # where it is there already, its sources stay
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
    found = {
        name: kept.measure((name, store, arguments.attention, arguments.seconds), parts[name])
        for name in arguments.parts.split(",")
    }
    for name, part in found.items():
        if part is not None:
            rows = [(key, str(value)) for key, value in part.items() if key != "curve"]
            print(Table(("", name), rows).markdown())
    print(json.dumps({"complete": kept.complete, **found}))


if __name__ == "__main__":
    main()

"""The benchmark of the presets' steps: without a GPU it says so; a small model tries it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    command = [sys.executable, "benchmarks/scaling.py", "--presets", "mindllm_1b3", *words]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_gpu_nothing_is_measured() -> None:
    assert run() == "not run: JAX finds no GPU (--here tests the benchmark on this machine with a small model)\n"


@pytest.mark.slow
def test_a_small_model_is_measured_and_what_fails_says_why(tmp_path: Path) -> None:
    file = tmp_path / "scaling.md"
    run("--here", "--attention", "xla,triton", "--rows", "2", "--seconds", "0.1", "--markdown", str(file))
    rows = [line.split(" | ") for line in file.read_text().splitlines() if line.startswith("| mindllm_1b3")]
    assert [row[1] for row in rows] == ["ours, xla", "ours, triton", "transformers, torch.compile"]
    assert float(rows[0][2].replace(",", "")) > 0
    assert "runs on gpu, not on cpu" in rows[1][-1]

"""The planner's page: the expected share of the roofline is that of published runs, and failures are shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import planner as benchmark

from mindllm_jax.planning.roofline import REACHED

ROOT = Path(__file__).parents[2]


def test_expected_gpu_share_is_the_median_of_published_runs() -> None:
    assert benchmark.median_of_last(benchmark.nanotron()) == pytest.approx(REACHED["gpu"], abs=0.01)


def test_expected_tpu_share_is_the_median_of_published_runs(libtpu: dict[str, str]) -> None:
    """Runs in its own process, because libtpu stays loaded."""
    script = "import sys; sys.path.insert(0, 'benchmarks'); import planner as p; print(p.median_of_last(p.published()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=libtpu, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(REACHED["tpu"], abs=0.01)


def test_failed_and_missing_plans_are_shown(tmp_path: Path) -> None:
    way = {
        "mesh": "fsdp 256", "micro": 4, "remat": "none", "compiled": True, "fits": True, "gib": 14.1,
        "estimated_gib": 14.0, "matmul": 1.5, "memory": 1.4, "overlapped_comm": 0.1,
        "exposed_comm": {"all-reduce": 0.3}, "roofline": 1.9, "expected": 2.3, "mfu": 0.5,
        "tokens_per_second": 1e6, "compile_seconds": 182.4, "peak_gb": 2.2, "commit": "abc1234",
    }  # fmt: skip
    (tmp_path / "3b-v5e-16x16.json").write_text(json.dumps([way]))
    (tmp_path / "3b-v6e-16x16.json").write_text(json.dumps({"failed": "error: nothing fits"}))
    rows = {row[:2]: row for row in benchmark.plans(tmp_path).rows}
    assert len(rows) == 14
    assert rows["3b", "v5e:16x16"][9] == "1.500 / 1.400 / 0.100 / 0.300"
    assert rows["3b", "v6e:16x16"][2] == "error: nothing fits"
    assert rows["1b3", "h100:1x8"][2] == "not run"

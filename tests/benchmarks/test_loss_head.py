"""The benchmark of the loss head, at a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_tiny_run(tmp_path: Path) -> None:
    """Chunks need less memory than all logits, and the smaller the chunk the less."""
    file = tmp_path / "loss_head.md"
    words = "--vocabs 4096 --tokens 512 --width 8 --chunks default,64".split()
    command = [sys.executable, ROOT / "benchmarks/loss_head.py", *words, "--markdown", file]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["lines"]
    assert [row["loss"] for row in rows] == ["naive", "chunk default", "chunk 64"]
    assert all(row["ms"] > 0 for row in rows)
    naive, default, small = (row["temporary GiB"] for row in rows)
    assert naive >= 512 * 4096 * 4 / 2**30 and small < default < naive
    assert "| 4,096 | chunk 64 |" in file.read_text(encoding="utf-8")

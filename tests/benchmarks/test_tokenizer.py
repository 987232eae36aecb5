"""The benchmark of tokenizers, on the documents of the tests."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_tiny_run(tmp_path: Path) -> None:
    (tmp_path / "tiny.gin").write_text("TrainTokenizer.vocab_size = 600\nTrainTokenizer.held_out = 0.3\n")
    train = [f"--train={tmp_path / 'tiny.gin'}", f"--train={tmp_path / 'tiny.gin'} TrainTokenizer.vocab_size=330"]
    inputs = ["--inputs", ROOT / "tests/fixtures/documents.jsonl", "--held_out", "0.3"]
    command = [sys.executable, ROOT / "benchmarks/tokenizer.py", *inputs, *train, "--markdown", tmp_path / "t.md"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert text.strip() == done.stdout.strip()
    assert "TrainTokenizer.vocab_size=330 | 330 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| all of zh"))
    _, _, many, few, _ = row.split("|")
    assert float(many) > float(few) >= 1

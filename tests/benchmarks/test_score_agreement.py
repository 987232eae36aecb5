"""The comparison of two models' scores, on scores that are made up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindllm_jax.instruct.scoring.shards import NUMBERS, TEXTS, ScoreShards

ROOT = Path(__file__).parents[2]


def row(number: int, loss: float, where: str = "a.jsonl") -> dict[str, Any]:
    """Returns a scored conversation of 10 + `number` tokens whose answer has this loss a token."""
    tokens = 10 + number
    counts = dict.fromkeys(NUMBERS, tokens) | {"number": number, "turns": 1, "cut_tokens": 0}
    sums = dict.fromkeys(("whole_nll", "answer_nll", "answer_entropy", "header_nll", "alone_nll"), loss * tokens)
    texts = dict.fromkeys(TEXTS) | {"where": f"{where}:{number}"}
    return counts | sums | texts | {"end_nll": loss, "tuned_nll": None, "tuned_entropy": None, "messages": []}


def compared(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/score_agreement.py", *(f"{folder.name}={folder}" for folder in folders)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_scores_of_two_models_are_compared(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).permutation(np.linspace(0.5, 2.0, 60))
    written = {"small": losses, "large": losses**2, "reversed": -losses + 3}
    for name, values in written.items():
        ScoreShards(tmp_path / name).write(0, [row(number, float(loss)) for number, loss in enumerate(values)])
    ScoreShards(tmp_path / "others").write(0, [row(number, 1.0, "b.jsonl") for number in range(60)])

    def line(name: str, other: str) -> list[str]:
        done = compared(tmp_path / "small", tmp_path / other)
        assert done.returncode == 0, done.stderr
        return [
            cell.strip() for cell in next(x for x in done.stdout.splitlines() if x.startswith(f"| {name} ")).split("|")
        ]

    assert line("answer_loss", "large")[2:4] == ["60", "1.000 (1.000 to 1.000)"]
    assert line("answer_loss", "large")[-2] == "100"
    assert line("answer_loss", "reversed")[3].startswith("-1.000")
    assert line("answer_loss", "reversed")[-2] == "0"
    assert line("answer_loss", "reversed")[4].startswith("-1.000"), "the length decides neither"
    assert [float(cell) for cell in line("small", "large")[3:8]] == pytest.approx(
        np.quantile(losses, (0.05, 0.25, 0.5, 0.75, 0.95)), abs=1e-3
    )
    assert "nan" not in compared(tmp_path / "small", tmp_path / "large").stdout
    within = 100 * np.mean((losses >= 1) & (losses <= 1.5))
    assert line("small", "large")[2::6] == ["60", f"{within:.1f}"]

    refused = compared(tmp_path / "small", tmp_path / "others")
    assert refused.returncode == 1 and "score the same sample" in refused.stderr


def test_a_label_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/score_agreement.py", "runs/a", "b=runs/b"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "LABEL=FOLDER" in done.stderr

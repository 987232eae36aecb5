"""launch/sft.py and launch/chat.py as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long


def launch(script: str, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch" / script), *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=typed, capture_output=True, text=True, encoding="utf-8", check=False
    )


@pytest.fixture
def settings(base: Path, write) -> list[str]:
    rows = [{"input": f"{i}?", "output": "是"} for i in range(40)]
    changed = {
        "Tune.base": str(base),
        "Instructions.inputs": f"('{write(*rows)}',)",
        "Instructions.sequence_length": "64",
        "Loop.steps": "2",
    }
    given = [f"--gin.{name}={value}" for name, value in changed.items()]
    return ["--gin", "configs/sft/small_bilingual.gin", *given]


def test_tuning_and_talking(settings: list[str], tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    tuned = launch("sft.py", *settings, "--workdir", str(workdir))
    assert tuned.returncode == 0, tuned.stderr
    assert "answer_loss" in tuned.stdout and "report.html" in tuned.stdout
    left = {path.name for path in workdir.iterdir()}
    assert {"config.gin", "operative_config.gin", "config.json", "metrics.jsonl", "report.html"} <= left
    assert {"checkpoints", "tokenizer.model", "instructions.npz"} <= left

    few = "--gin.Sampling.max_tokens=4"
    talked = launch("chat.py", f"--gin.Chat.run={workdir}", few, typed="Hi\n/reset\n你好\n/quit\n")
    assert talked.returncode == 0, talked.stderr
    assert "a new conversation" in talked.stdout and talked.stdout.count("> ") == 4


def test_a_dry_run_prints_the_cost_and_leaves_nothing(settings: list[str], tmp_path: Path) -> None:
    read = [word for word in settings if "Instructions.inputs" not in word]
    run = launch("sft.py", *read, "--workdir", str(tmp_path / "run"), "--dry_run")
    assert run.returncode == 0, run.stderr
    assert "FLOPs of the run" in run.stdout
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_there_is_one_message() -> None:
    run = launch("chat.py", "--gin.Chat.run=runs/nowhere", "--gin.Chat.prompt=Hi")
    assert run.returncode == 2
    assert "error: runs/nowhere holds no checkpoint" in run.stderr and "Traceback" not in run.stderr

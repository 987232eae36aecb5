"""docs/tutorial.md runs as it stands, on the project's own pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the reader has: a checkout."""
    for name in ("launch", "configs", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
def test_every_block_runs(folder: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs/tutorial.md").read_text("utf-8"))
    assert len(blocks) >= 10
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    output = ""
    for language, text in blocks:
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{text}\n{run.stdout}\n{run.stderr}"
        output += run.stdout
    assert "report: runs/tutorial/pretrain/report.html" in output
    evaluation = json.loads((folder / "runs/tutorial/evaluation/eval.json").read_text("utf-8"))
    assert evaluation["bits_per_byte"]["en"] < 8

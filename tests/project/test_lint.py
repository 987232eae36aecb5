"""The tools that read the code: lint and format, types."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = {
    "lint": ["ruff", "check", "--no-cache"],
    "format": ["ruff", "format", "--check", "--no-cache"],
    "types": ["basedpyright", "--level", "error", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize(
    "tool", [pytest.param(tool, marks=pytest.mark.long if tool == "types" else ()) for tool in TOOLS]
)
def test_tool_has_nothing_to_say(tool: str) -> None:
    command = Path(sys.executable).with_name(TOOLS[tool][0])
    run = subprocess.run([command, *TOOLS[tool][1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr

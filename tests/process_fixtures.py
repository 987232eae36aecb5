"""Scripts of tests in several processes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

InTwoProcesses = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def in_two_processes(tmp_path: Path) -> InTwoProcesses:
    """Runs the text of a script, with the test's folder as its argument, as two processes that meet.

    devices: of each process.
    """

    def run(text: str, *, devices: int = 1) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "process.py"
        script.write_text(text, encoding="utf-8")
        command = [sys.executable, "launch/local_cluster.py", "--processes", "2", "--devices", str(devices), "--"]
        done = subprocess.run(
            [*command, sys.executable, str(script), str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run

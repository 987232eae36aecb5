"""Several processes on one machine."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, time
if os.environ["MINDLLM_PROCESS"] == "1":
    sys.exit(3)
time.sleep(600)
"""


def test_when_one_fails_the_others_are_stopped() -> None:
    command = [sys.executable, "launch/local_cluster.py", "--processes", "3", "--", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "process 1 failed; the others are stopped" in done.stderr

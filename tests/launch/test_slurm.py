"""launch/slurm.sbatch on a real Slurm of two nodes, both on this machine."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
Slurm = Callable[..., str]


def trained(slurm: Slurm, gin: Path, store: Path, folder: Path, *settings: str) -> str:
    """Submits the file as a user does; returns the log of the job when it has ended."""
    job = slurm(
        "sbatch",
        "--parsable",
        f"--output={folder}/%j.log",
        "launch/slurm.sbatch",
        *settings,
        GIN=str(gin),
        STORE=str(store),
        WORKDIR=str(folder / "run"),
        PYTHON=sys.executable,
        PYTHONPATH=str(ROOT),
        JAX_PLATFORMS="cpu",
    ).strip()
    deadline = time.monotonic() + 240
    while slurm("squeue", "--noheader", "--job", job, "--states=PENDING,RUNNING,COMPLETING").strip():
        assert time.monotonic() < deadline, (folder / f"{job}.log").read_text()
        time.sleep(0.5)
    return (folder / f"{job}.log").read_text()


def test_slurm_accepts_the_file_as_it_is(slurm: Slurm) -> None:
    said = slurm("sbatch", "--test-only", "launch/slurm.sbatch")
    assert re.search(r"to start at .* on nodes \S+,\S+ in partition all", said), said


def test_two_nodes_train_and_the_same_command_resumes(slurm: Slurm, gin: Path, store: Path, tmp_path: Path) -> None:
    log = trained(slurm, gin, store, tmp_path, "--gin.Loop.steps=5")
    assert "2 hosts x 1 devices (cpu): data 2" in log, log
    assert "step      5/5" in log, log
    log = trained(slurm, gin, store, tmp_path, "--gin.Loop.steps=10", "--accept_changes")
    assert "resuming after step 5 of 10" in log and "step     10/10" in log, log

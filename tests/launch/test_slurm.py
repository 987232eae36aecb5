"""launch/slurm.sbatch on a real Slurm of two nodes, both on this machine."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CryptoType=crypto/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldPort={ports[0]}
# The number of a job gives its port: two of these clusters on one machine need different ones.
FirstJobId={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
GresTypes=gpu
# Nodes are sorted, and the first one's name has to lead to this machine: process 0 waits there.
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} Gres=gpu:8
NodeName={host}-2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} Gres=gpu:8
PartitionName=all Nodes=ALL Default=YES State=UP
"""
Slurm = Callable[..., str]


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Starts slurmctld and two slurmd; gives a function that runs one of Slurm's commands."""
    # Debian installs the daemons where only root looks.
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt install slurmctld slurmd slurm-client")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(
        host=host, user=getpass.getuser(), folder=folder, ports=free_ports(3), cpus=len(os.sched_getaffinity(0))
    )
    (folder / "slurm.conf").write_text(text)
    for number in range(8):  # what passes for a GPU here
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def run(*command: str, **changes: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=environment | changes, capture_output=True, text=True, timeout=240, check=False
        )
        return done.stdout + done.stderr

    log = (folder / "daemons.log").open("w")
    daemons = [
        subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host], ["slurmd", "-D", "-N", f"{host}-2"])
    ]
    try:
        deadline = time.monotonic() + 30
        while True:
            time.sleep(1)  # asked too early, sinfo waits long before it asks again
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                pytest.skip(f"Slurm cannot be started here: {(folder / 'daemons.log').read_text()[-500:]}")
            if run("sinfo", "-h", "-o", "%D %T").strip() == "2 idle":
                break
        yield run
    finally:
        run("scancel", "--user", getpass.getuser())
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
        log.close()


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

"""A tiny store and the settings of a run of a few steps; a Slurm of two nodes on this machine."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mindllm_jax.store.writer import SourceDocuments, build_store
from mindllm_jax.text.documents import Document
from mindllm_jax.tokenization.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = """
Model.vocab_size = 1000
Model.layers = 2
Model.width = 32
Model.heads = 2
Model.head_dim = 16
Model.mlp_dim = 64
Model.max_seq_len = 32
Mixture.weights = {'en': 1}
Mixture.sequence_length = 32
Loop.global_batch_size = 4
Loop.log_every = 1
Loop.evaluate_every = 1000
"""
SLURM = """
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
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory=2000 Gres=gpu:8
NodeName={host}-2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory=2000 Gres=gpu:8
PartitionName=all Nodes=ALL Default=YES State=UP
"""
Slurm = Callable[..., str]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token store of 80 short documents."""
    folder = tmp_path_factory.mktemp("store") / "store"
    texts = [f"Article {n}: the river was {n * 3} miles long, the mill {n} below.\n" for n in range(80)]
    documents = [Document(text, "wiki", "en", f"wiki/{n}") for n, text in enumerate(texts)]
    tokenizer = Tokenizer.load(ROOT / "tests/fixtures/tokenizer.model")
    build_store(str(folder), [SourceDocuments("wiki", "en", {}, lambda: documents)], tokenizer, held_out=0.1)
    return folder


@pytest.fixture(scope="session")
def gin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a tiny model; the store is given on the command line."""
    file = tmp_path_factory.mktemp("gin") / "tiny.gin"
    file.write_text(SETTINGS)
    return file


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="session")
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
    text = SLURM.format(
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

    run.environment = environment  # pyright: ignore[reportFunctionMemberAccess]  what a program that calls them needs
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

"""Finds the processes of a run from its launcher: our own variables, Slurm, Kubernetes or a TPU pod."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COORDINATOR, PROCESSES, PROCESS = "MINDLLM_COORDINATOR", "MINDLLM_PROCESSES", "MINDLLM_PROCESS"
POD_INDEX = "JOB_COMPLETION_INDEX"  # set by Kubernetes in every pod of an indexed job
TPU_PORT = 8482  # jax's default, open in the firewalls of TPU pods


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as one of them knows them before the rendezvous."""

    address: str  # host:port where process 0 waits for the others
    index: int  # of this process
    hosts: tuple[str, ...]  # of each process; "" where it is unknown before the rendezvous


def find_processes() -> ProcessGroup | None:
    """Returns the processes that were launched together with this one, or None where it is alone.

    Raises ValueError for a variable that is missing or invalid, OSError when a TPU machine cannot find its pod.
    """
    group = _own_variables(os.environ) or _slurm(os.environ) or _tpu(os.environ)
    if group is None or len(group.hosts) == 1:
        return None
    if not 0 <= group.index < len(group.hosts):
        raise ValueError(
            f"this is process {group.index} of {len(group.hosts)}: processes are numbered 0 to {len(group.hosts) - 1}"
        )
    return group


def _own_variables(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Reads our own variables, as `launch/local_cluster.py` and the JobSets set them."""
    if COORDINATOR not in environ:
        return None
    address, count = environ[COORDINATOR], _number(environ, PROCESSES)
    if count < 1:
        raise ValueError(f"environment variable {PROCESSES} = {count}: it must be at least 1")
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError(f"environment variable {COORDINATOR} = {address}: give it as host:port")
    if PROCESS not in environ and POD_INDEX in environ:
        # Pods are named by their number: mindllm-worker-0-0.mindllm is the first.
        pod = host.partition(".")[0].removesuffix("0")
        return ProcessGroup(address, _number(environ, POD_INDEX), tuple(f"{pod}{index}" for index in range(count)))
    local = socket.gethostname() if host in ("127.0.0.1", "localhost") else ""
    return ProcessGroup(address, _number(environ, PROCESS), (local,) * count)


def _slurm(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Reads the variables of a step that `srun` started; a batch script itself has none, and is alone."""
    if "SLURM_STEP_NODELIST" not in environ:
        return None
    nodes = expand_nodes(environ["SLURM_STEP_NODELIST"])
    if "SLURM_STEP_TASKS_PER_NODE" not in environ:
        raise ValueError(
            "SLURM_STEP_NODELIST is set and SLURM_STEP_TASKS_PER_NODE is not: start the processes by srun, or pass on"
            " all of its variables or none"
        )
    tasks = _repeated(environ["SLURM_STEP_TASKS_PER_NODE"])
    hosts = tuple(itertools.chain.from_iterable((node,) * n for node, n in zip(nodes, tasks, strict=True)))
    port = 61440 + _number(environ, "SLURM_JOB_ID") % 4096
    return ProcessGroup(f"{nodes[0]}:{port}", _number(environ, "SLURM_PROCID"), hosts)


def expand_nodes(text: str) -> list[str]:
    """Expands Slurm's short form of host names: `a[1-2,07],b` to a1, a2, a07, b."""
    names = []
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        # Plain text and bracketed lists alternate.
        parts = re.split(r"\[([^\]]*)\]", item)
        choices = [list(_numbers(part)) if place % 2 else [part] for place, part in enumerate(parts)]
        names += ["".join(chosen) for chosen in itertools.product(*choices)]
    return names


def _numbers(text: str) -> Iterator[str]:
    for item in text.split(","):
        first, _, last = item.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield str(number).zfill(len(first))


def _repeated(text: str) -> list[int]:
    """Expands Slurm's short form of counts: `2(x3),1` to 2, 2, 2, 1."""
    counts = (re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", item) for item in text.split(","))
    return [int(match[1]) for match in counts if match for _ in range(int(match[2] or 1))]


def _tpu(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Returns the hosts of one or several TPU slices, from Kubernetes' variables or from the metadata server."""
    facts = environ if "TPU_WORKER_HOSTNAMES" in environ else _metadata(environ)
    if facts is None:
        return None
    workers = facts["TPU_WORKER_HOSTNAMES"].split(",")
    slices, slice_id = _number(facts, "MEGASCALE_NUM_SLICES", 1), _number(facts, "MEGASCALE_SLICE_ID", 0)
    worker = _number(facts, "TPU_WORKER_ID") if len(workers) > 1 else 0
    hosts = [""] * (len(workers) * slices)
    hosts[slice_id * len(workers) : (slice_id + 1) * len(workers)] = workers
    first = (facts.get("MEGASCALE_COORDINATOR_ADDRESS") or workers[0]).partition(":")[0]
    return ProcessGroup(f"{first}:{TPU_PORT}", slice_id * len(workers) + worker, tuple(hosts))


def _metadata(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Reads a TPU machine's slice from the metadata server, under the names of Kubernetes' variables."""
    if "TPU_SKIP_MDS_QUERY" in environ or not _has_chips():
        return None
    server = environ.get("GCE_METADATA_IP", "metadata.google.internal")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def attribute(name: str) -> str:
        url = f"http://{server}/computeMetadata/v1/instance/attributes/{name}"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with opener.open(request, timeout=10) as response:
            return response.read().decode()

    try:
        # A worker is listed by its name, or in an older form as name:id:address.
        workers = [item.rpartition(":")[2] for item in attribute("worker-network-endpoints").split(",")]
        facts = dict(re.findall(r"^(\w+): '?(.*?)'?$", attribute("tpu-env"), re.MULTILINE))
        return facts | {"TPU_WORKER_HOSTNAMES": ",".join(workers), "TPU_WORKER_ID": attribute("agent-worker-number")}
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 404:
            return None  # a TPU machine that is not part of a slice has no such attributes
        raise OSError(
            f"this machine has TPUs, but its pod is unknown, because the metadata server ({server}) failed: {error}; "
            "TPU_SKIP_MDS_QUERY=1 uses this machine alone"
        ) from None


def _has_chips() -> bool:
    """Returns whether this machine has TPUs and libtpu; other machines do not query the network."""
    devices = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return bool(devices) and importlib.util.find_spec("libtpu") is not None


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Returns the number in a variable; `default`, if there is one, where it is not set or empty."""
    if default is not None and not environ.get(name):
        return default
    if not re.fullmatch(r"\d+", environ.get(name, "")):
        raise ValueError(f"environment variable {name} = {environ.get(name, '(not set)')}: it must be a number")
    return int(environ[name])

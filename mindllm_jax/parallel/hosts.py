"""Which processes a run has, as its launcher tells it: our own variables, Slurm, Kubernetes or a TPU pod."""

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
POD_INDEX = "JOB_COMPLETION_INDEX"  # Kubernetes gives it to every pod of an indexed job
TPU_PORT = 8482  # jax's own choice, which firewalls of TPU pods let through


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as one of them knows them before they meet."""

    address: str  # host:port where process 0 waits for the others
    index: int  # of this process
    hosts: tuple[str, ...]  # of each process; "" where it is not known before they meet


def find_processes() -> ProcessGroup | None:
    """The processes that were started together with this one; None where it is alone.

    Raises ValueError for a variable that is missing or makes no sense, OSError when a TPU machine cannot learn its pod.
    """
    group = _told(os.environ) or _slurm(os.environ) or _tpu(os.environ)
    if group is None or len(group.hosts) == 1:
        return None
    if not 0 <= group.index < len(group.hosts):
        raise ValueError(f"this is process {group.index} of {len(group.hosts)}: numbers go from 0 to one less than all")
    return group


def _told(told: Mapping[str, str]) -> ProcessGroup | None:
    """Our own variables, as `launch/local_cluster.py` and the JobSets set them."""
    if COORDINATOR not in told:
        return None
    address, count = told[COORDINATOR], _number(told, PROCESSES)
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError(f"environment variable {COORDINATOR} = {address}: give it as host:port")
    if PROCESS not in told and POD_INDEX in told:
        # Pods are named by their number: mindllm-worker-0-0.mindllm is the first.
        pod = host.partition(".")[0].removesuffix("0")
        return ProcessGroup(address, _number(told, POD_INDEX), tuple(f"{pod}{index}" for index in range(count)))
    here = socket.gethostname() if host in ("127.0.0.1", "localhost") else ""
    return ProcessGroup(address, _number(told, PROCESS), (here,) * count)


def _slurm(told: Mapping[str, str]) -> ProcessGroup | None:
    """A step that `srun` started; in the batch script itself there is none, and a process is alone."""
    if "SLURM_STEP_NODELIST" not in told:
        return None
    nodes = expand_nodes(told["SLURM_STEP_NODELIST"])
    tasks = _repeated(told["SLURM_STEP_TASKS_PER_NODE"])
    hosts = tuple(itertools.chain.from_iterable((node,) * n for node, n in zip(nodes, tasks, strict=True)))
    port = 61440 + _number(told, "SLURM_JOB_ID") % 4096
    return ProcessGroup(f"{nodes[0]}:{port}", _number(told, "SLURM_PROCID"), hosts)


def expand_nodes(text: str) -> list[str]:
    """Slurm's short form of host names: `a[1-2,07],b` -> a1, a2, a07, b."""
    names = []
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        # Plain text and bracketed lists take turns.
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
    """Slurm's short form of counts: `2(x3),1` -> 2, 2, 2, 1."""
    counts = (re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", item) for item in text.split(","))
    return [int(match[1]) for match in counts if match for _ in range(int(match[2] or 1))]


def _tpu(told: Mapping[str, str]) -> ProcessGroup | None:
    """Hosts of a TPU slice, or of several: Kubernetes tells them in variables, TPU machines by the metadata server."""
    facts = told if "TPU_WORKER_HOSTNAMES" in told else _metadata(told)
    if facts is None:
        return None
    workers = facts["TPU_WORKER_HOSTNAMES"].split(",")
    slices, own = int(facts.get("MEGASCALE_NUM_SLICES") or 1), int(facts.get("MEGASCALE_SLICE_ID") or 0)
    hosts = [""] * (len(workers) * slices)
    hosts[own * len(workers) : (own + 1) * len(workers)] = workers
    first = (facts.get("MEGASCALE_COORDINATOR_ADDRESS") or workers[0]).partition(":")[0]
    return ProcessGroup(f"{first}:{TPU_PORT}", own * len(workers) + _number(facts, "TPU_WORKER_ID"), tuple(hosts))


def _metadata(told: Mapping[str, str]) -> dict[str, str] | None:
    """What the metadata server tells a TPU machine of its slice, under the names of Kubernetes' variables."""
    if "TPU_SKIP_MDS_QUERY" in told or not _has_chips():
        return None
    server = told.get("GCE_METADATA_IP", "metadata.google.internal")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def attribute(name: str) -> str:
        url = f"http://{server}/computeMetadata/v1/instance/attributes/{name}"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with opener.open(request, timeout=10) as answer:
            return answer.read().decode()

    try:
        # A worker is listed by its name, or in an older form as name:id:address.
        workers = [item.rpartition(":")[2] for item in attribute("worker-network-endpoints").split(",")]
        facts = dict(re.findall(r"^(\w+): '?(.*?)'?$", attribute("tpu-env"), re.MULTILINE))
        return facts | {"TPU_WORKER_HOSTNAMES": ",".join(workers), "TPU_WORKER_ID": attribute("agent-worker-number")}
    except urllib.error.HTTPError:
        return None  # a TPU machine that is not part of a slice has no such attributes
    except OSError as error:
        raise OSError(
            f"this machine has TPUs, but the metadata server ({server}) does not tell of which pod: {error}; "
            "TPU_SKIP_MDS_QUERY=1 uses this machine alone"
        ) from None


def _has_chips() -> bool:
    """Whether this machine has TPUs and what runs them; other machines are spared the question to the network."""
    devices = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return bool(devices) and importlib.util.find_spec("libtpu") is not None


def _number(told: Mapping[str, str], name: str) -> int:
    if not re.fullmatch(r"\d+", told.get(name, "")):
        raise ValueError(f"environment variable {name} = {told.get(name, '(not set)')}: a number is needed here")
    return int(told[name])

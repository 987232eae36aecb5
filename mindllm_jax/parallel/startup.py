"""Start of a process: joining the others, and the persistent compilation cache."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from mindllm_jax.parallel.hosts import find_peers
from mindllm_jax.parallel.roll_call import roll_call

LIMIT = "MINDLLM_START_LIMIT"
DEFAULT_LIMIT = 45.0  # seconds; with the imports before it, a start fails within a minute


def start() -> None:
    """Call once, before anything touches a device.

    Joins the other processes of the run where there are any (`find_peers`), within $MINDLLM_START_LIMIT seconds (45),
    and keeps compiled programs in `$XDG_CACHE_HOME/mindllm-jax` (JAX_COMPILATION_CACHE_DIR chooses another place), so
    that a second start is fast.

    Raises TimeoutError that names the processes and hosts that did not come, ValueError or OSError where the launcher's
    description of the run makes no sense.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "mindllm-jax"))
    if peers := find_peers():
        limit = _limit()
        roll_call(peers, limit)
        jax.distributed.initialize(
            peers.address,
            len(peers.hosts),
            peers.index,
            initialization_timeout=round(limit) + 1,
            # A process takes all devices that it sees; under Slurm jax would take one of them.
            cluster_detection_method="deactivate",
        )


def layout(mesh: jax.sharding.Mesh) -> str:
    """`4 hosts x 8 devices (TPU v5p): data 4 x fsdp 8`: one line that says on what a run goes."""
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1) or "one device"
    hosts, devices = jax.process_count(), jax.local_device_count()
    return f"{hosts} hosts x {devices} devices ({jax.devices()[0].device_kind}): {axes}"


def _limit() -> float:
    text = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise ValueError(f"{LIMIT} = {text}: give the seconds to wait for the other processes, as {LIMIT}=45")
    return limit

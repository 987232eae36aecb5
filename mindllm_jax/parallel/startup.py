"""Start of a process: joining the others, devices, the persistent compilation cache, quiet libraries."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

import jax
import jax.extend

from mindllm_jax.parallel.hosts import find_processes
from mindllm_jax.parallel.rendezvous import rendezvous

LIMIT = "MINDLLM_START_LIMIT"
DEFAULT_LIMIT = 45.0  # seconds; with the imports before it, a start fails within a minute


def start() -> None:
    """Call once, before anything touches a device.

    Joins the other processes of the run where there are any (`find_processes`), in $MINDLLM_START_LIMIT seconds (45),
    and keeps compiled programs in `$XDG_CACHE_HOME/mindllm-jax` (JAX_COMPILATION_CACHE_DIR chooses another place), so
    that a second start is fast; where no such folder can be written one line says so. Of Orbax, which logs a traceback
    for each of its threads around an error that we tell in one line, nothing is logged unless MINDLLM_TRACEBACK=1.

    Raises TimeoutError that names the processes and hosts that did not come, ValueError or OSError where the launcher's
    description of the run makes no sense or JAX_PLATFORMS names a device that is not there.
    """
    logging.getLogger("absl").disabled = not os.environ.get("MINDLLM_TRACEBACK")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            jax.config.update("jax_compilation_cache_dir", str(_cache_folder()))
        except (RuntimeError, OSError) as error:  # RuntimeError: no HOME, and no such user
            hint = "set JAX_COMPILATION_CACHE_DIR to a folder that can be written to keep them"
            print(f"compiled programs are not kept ({error}); {hint}", file=sys.stderr)
    if group := find_processes():
        limit = _limit()
        rendezvous(group, limit)
        jax.distributed.initialize(
            group.address,
            len(group.hosts),
            group.index,
            initialization_timeout=round(limit) + 1,
            # A process takes all devices that it sees; under Slurm jax would take one of them.
            cluster_detection_method="deactivate",
        )
    check_platforms()


def check_platforms() -> None:
    """Raises ValueError, with the platforms there are, where JAX cannot use those that JAX_PLATFORMS asks for."""
    asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]  made at import
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError, without a text: cuda without a GPU
        if not asked:
            raise ValueError(f"JAX cannot use this machine's devices: {error}") from None
        jax.config.update("jax_platforms", "")
        there = ", ".join(jax.extend.backend.backends())
        reason = str(error).partition(" (set JAX_PLATFORMS")[0]
        raise ValueError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device here{reason and f' ({reason})'}; it finds {there}. Set "
            "JAX_PLATFORMS to one of these, or unset it to take the fastest"
        ) from None


def _cache_folder() -> Path:
    """Where compiled programs are kept. Raises RuntimeError without a home, OSError where nothing can be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "mindllm-jax"
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def cache_folder() -> Path | None:
    """Where this process keeps compiled programs, and other files that save the next start time; None: nowhere, or not
    in a folder of a file system."""
    kept: str | None = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    return None if not kept or "://" in kept else Path(kept)


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

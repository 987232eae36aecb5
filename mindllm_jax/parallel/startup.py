"""Startup of a process: rendezvous, devices, the persistent compilation cache, quiet libraries."""

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
    """Starts this process; call it once, before anything touches a device.

    Joins the other processes of the run, if any (`find_processes`), within $MINDLLM_START_LIMIT seconds (45). Keeps
    compiled programs in `$XDG_CACHE_HOME/mindllm-jax` (or JAX_COMPILATION_CACHE_DIR), so that a second start is fast;
    prints one line where that folder cannot be written. Silences Orbax, which logs a traceback per thread for an error
    that this program reports in one line, unless MINDLLM_TRACEBACK=1.

    Raises TimeoutError that names the processes and hosts that did not join; ValueError or OSError where the launcher's
    variables are invalid or JAX_PLATFORMS names a platform that this machine lacks.
    """
    logging.getLogger("absl").disabled = not os.environ.get("MINDLLM_TRACEBACK")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        try:
            jax.config.update("jax_compilation_cache_dir", str(_cache_folder()))
        except (RuntimeError, OSError) as error:  # RuntimeError: no HOME, and no such user
            hint = "set JAX_COMPILATION_CACHE_DIR to a writable folder to keep them"
            print(f"compiled programs are not kept ({error}); {hint}", file=sys.stderr)
    if group := find_processes():
        limit = _limit()
        rendezvous(group, limit)
        jax.distributed.initialize(
            group.address,
            len(group.hosts),
            group.index,
            initialization_timeout=round(limit) + 1,
            # A process takes all devices that it sees; under Slurm jax would take one.
            cluster_detection_method="deactivate",
        )
    check_platforms()


def check_platforms() -> None:
    """Raises ValueError, with the available platforms, when JAX cannot use those in JAX_PLATFORMS."""
    requested = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]  made at import
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError, without a text: cuda without a GPU
        if not requested:
            raise ValueError(f"JAX cannot use this machine's devices: {error}") from None
        jax.config.update("jax_platforms", "")
        available = ", ".join(jax.extend.backend.backends())
        reason = str(error).partition(" (set JAX_PLATFORMS")[0]
        raise ValueError(
            f"JAX_PLATFORMS={requested}: JAX finds no such device{reason and f' ({reason})'}; it finds {available}. "
            "Set JAX_PLATFORMS to one of these, or unset it to take the fastest"
        ) from None


def _cache_folder() -> Path:
    """Returns the folder of compiled programs. Raises RuntimeError without a home, OSError when it is not writable."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "mindllm-jax"
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def cache_folder() -> Path | None:
    """Returns the folder of compiled programs and of what else speeds up the next start; None without a local one."""
    folder: str | None = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    return None if not folder or "://" in folder else Path(folder)


def layout(mesh: jax.sharding.Mesh) -> str:
    """Describes the devices of a run in one line: `4 hosts x 8 devices (TPU v5p): data 4 x fsdp 8`."""
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

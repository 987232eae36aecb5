"""Start of a process: joining the others, and the persistent compilation cache."""

from __future__ import annotations

import os
from pathlib import Path

import jax

COORDINATOR, PROCESSES, PROCESS = "MINDLLM_COORDINATOR", "MINDLLM_PROCESSES", "MINDLLM_PROCESS"


def start() -> None:
    """Call once, before anything touches a device.

    Joins the processes that `launch/local_cluster.py` names in the environment, and keeps compiled programs in
    `$XDG_CACHE_HOME/mindllm-jax` (JAX_COMPILATION_CACHE_DIR chooses another place), so that a second start is fast.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "mindllm-jax"))
    if COORDINATOR in os.environ:
        address, count, index = (os.environ[name] for name in (COORDINATOR, PROCESSES, PROCESS))
        jax.distributed.initialize(address, int(count), int(index))

"""Identifies the subject of a measurement: device, package versions, and the sources of the library."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

from mindllm_jax.files import json_sha256, tree_sha256
from mindllm_jax.run_records import git_sha, installed
from mindllm_jax.training.dtype_cache import processor

PACKAGES = (
    "jax",
    "jaxlib",
    "libtpu",
    "jax-cuda13-plugin",
    "nvidia-cudnn-cu13",
    "jax-triton",
    "triton",
    "tokamax",
    "flax",
    "optax",
    "torch",
    "transformers",
)
"""Packages on which a measurement depends."""

LIBRARY = Path(__file__).parents[2]


@functools.cache
def source_sha256() -> str:
    """Returns the sha256 of the library's Python files, which identifies them without git."""
    # `**` may stop at the symlink
    return tree_sha256(LIBRARY, [*LIBRARY.glob("**/*.py"), *(LIBRARY / "kernels").glob("**/*.py")])


def gpu() -> tuple[str, str] | None:
    """Returns the name of the first NVIDIA GPU and the driver's version by nvidia-smi; None if it finds none.

    It does not initialise the GPU in this process.
    """
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    name, _, driver = done.stdout.strip().partition(", ")
    return (name, driver) if done.returncode == 0 and name else None


def identity() -> dict[str, str | dict[str, str]]:
    """Returns device, driver, Python, package versions, sources and commit, to be recorded with a measurement."""
    name, driver = gpu() or (processor(), "none")
    return {
        "device": name,
        "driver": driver,
        "python": platform.python_version(),
        "versions": installed(PACKAGES),
        "sources": source_sha256(),
        "git": git_sha(),
    }


@functools.cache
def digest() -> str:
    """Returns a hash of the identity without commit and driver; measurements with another hash are ignored."""
    subject = {name: value for name, value in identity().items() if name not in ("git", "driver")}
    return json_sha256(subject, sort_keys=True)[:16]

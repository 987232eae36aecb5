"""A cache of step times by dtype, one entry per machine, in a file that several machines may share."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

from mindllm_jax import __version__
from mindllm_jax.files import read_json, write_text

FILE = "compute_dtype.json"

_NAMES = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")  # of /proc/cpuinfo
_INSTRUCTIONS = re.compile(r"avx2|avx512f|sve2?|sme2?|\w*bf16")  # those that decide the speed of products
_DEVICES = re.compile(r"--xla_force_host_platform_device_count=\S*")  # does not change the speed of one device


class Measured(NamedTuple):
    """Seconds of a training step in each dtype, and the date."""

    float32: float
    bfloat16: float
    date: str  # as 2026-01-31


def key() -> str:
    """Returns this machine's key: processor, usable cores, versions and XLA_FLAGS, which decide the speed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"mindllm-jax {__version__}", f"jaxlib {importlib.metadata.version('jaxlib')}"
    flags = " ".join(_DEVICES.sub("", os.environ.get("XLA_FLAGS", "")).split())
    return ", ".join((processor(), f"{cores} cores", *versions, f"XLA_FLAGS={flags}"))


def processor() -> str:
    """Names the processor and its instruction sets, because hypervisors give many processors one name."""
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:  # not Linux; on a Mac the system's version names the chip's generation
        return f"{platform.processor() or platform.machine()} ({platform.version()})"
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    words = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    names = [fields[name] for name in _NAMES if name in fields] or [platform.machine()]
    return f"{' '.join(names)} ({' '.join(sorted(filter(_INSTRUCTIONS.fullmatch, words)))})"


def read_cache(path: Path) -> dict[str, Measured]:
    """Reads all entries, by `key`; none without a file.

    Raises OSError when the file cannot be read, ValueError that names it when it is damaged or something else.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    try:
        entries = {name: Measured(**entry) for name, entry in content.items()}
        for measured in entries.values():
            datetime.date.fromisoformat(measured.date)
            if not all(0 < seconds < float("inf") for seconds in measured[:2]):
                raise ValueError("seconds must be positive and finite")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged: it must hold seconds of a training step by machine ({error})") from None
    return entries


def add_to_cache(path: Path, name: str, measured: Measured) -> None:
    """Writes the entry of one machine and keeps those of others; replaces a damaged file.

    Raises OSError when the file cannot be written.
    """
    others: dict[str, Measured] = {}
    with contextlib.suppress(OSError, ValueError):
        others = read_cache(path)
    entries = {name: entry._asdict() for name, entry in {**others, name: measured}.items()}
    write_text(path, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")

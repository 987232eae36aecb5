"""What was measured on this machine once, in a file that several machines may share: seconds of a step by dtype."""

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
_INSTRUCTIONS = re.compile(r"avx2|avx512f|sve2?|sme2?|\w*bf16")  # that decide how fast it multiplies
_DEVICES = re.compile(r"--xla_force_host_platform_device_count=\S*")  # changes nothing for one of them


class Measured(NamedTuple):
    """Seconds of a training step in each dtype, and the day."""

    float32: float
    bfloat16: float
    date: str  # as 2026-01-31


def key() -> str:
    """What decides the answer: the processor, its cores that this process may use, versions, XLA_FLAGS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"mindllm-jax {__version__}", f"jaxlib {importlib.metadata.version('jaxlib')}"
    flags = " ".join(_DEVICES.sub("", os.environ.get("XLA_FLAGS", "")).split())
    return ", ".join((processor(), f"{cores} cores", *versions, f"XLA_FLAGS={flags}"))


def processor() -> str:
    """Names the processor and its instructions, since virtual machines give many processors one name."""
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:  # not Linux; the system's version names the chip's generation on a Mac
        return f"{platform.processor() or platform.machine()} ({platform.version()})"
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    words = f"{told.get('flags', '')} {told.get('Features', '')}".split()
    names = [told[name] for name in _NAMES if name in told] or [platform.machine()]
    return f"{' '.join(names)} ({' '.join(sorted(filter(_INSTRUCTIONS.fullmatch, words)))})"


def recall(path: Path) -> dict[str, Measured]:
    """Reads all that is remembered, by `key`; nothing where there is no file.

    Raises OSError where the file cannot be read, ValueError that names it where it is damaged or something else.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return {}
    try:
        found = {name: Measured(**entry) for name, entry in content.items()}
        for measured in found.values():
            datetime.date.fromisoformat(measured.date)
            if not all(0 < seconds < float("inf") for seconds in measured[:2]):
                raise ValueError("seconds that no step takes")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged: not seconds of a training step by machine ({error})") from None
    return found


def remember(path: Path, name: str, measured: Measured) -> None:
    """Writes what was measured beside what the file has of other machines; one that is damaged is replaced.

    Raises OSError where it cannot be written.
    """
    others: dict[str, Measured] = {}
    with contextlib.suppress(OSError, ValueError):
        others = recall(path)
    entries = {name: entry._asdict() for name, entry in {**others, name: measured}.items()}
    write_text(path, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")

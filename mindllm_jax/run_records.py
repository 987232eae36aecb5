"""Records of a run in its workdir: settings, command and versions; and the check of a new command against them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mindllm_jax import configuration
from mindllm_jax.files import read_json, write_text

PACKAGES = (
    "mindllm-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorstore",
    "sentencepiece",
    "tokenizers",
)
OPTIONAL = ("jax-cuda13-plugin", "jax-cuda12-plugin", "jax-triton", "triton", "libtpu", "scikit-learn", "lm-eval")
"""Packages that decide figures where they are installed."""

Recorded = Callable[[Path], dict[str, Any] | None]


def recorded(workdir: Path) -> dict[str, Any] | None:
    """Returns the settings in the workdir's config.json, as `resolved`; None where it has none."""
    path = workdir / "config.json"
    return read_json(path) if path.exists() else None


def check_records(config: Any, arguments: configuration.Arguments, recorded: Recorded = recorded) -> Path:
    """Compares the settings with those recorded in the workdir and returns the workdir; writes nothing.

    recorded: reads the recorded settings.

    Raises ValueError when no workdir was given, when it holds a run of another entry point, and, unless
    `--accept_changes` was given, when its settings differ; the message lists the differences.
    """
    workdir = arguments.workdir
    if workdir is None:
        raise ValueError("give the folder of the run as --workdir DIR")
    old = recorded(workdir)
    if old is None:
        return workdir
    new = resolved(config)
    if old.keys() != new.keys():
        raise ValueError(
            f"{workdir} holds a run of {', '.join(old)}, and this is one of {', '.join(new)}: take another --workdir"
        )
    changed = differences(old, new)
    if changed and not arguments.accept_changes:
        listing = "\n  ".join(changed)
        raise ValueError(
            f"{workdir} holds a run of another configuration:\n  {listing}\n"
            "take another --workdir, or resume this run with the new settings by --accept_changes"
        )
    return workdir


def write_records(config: Any, workdir: Path, compute_dtype: str | None = None, recorded: Recorded = recorded) -> None:
    """Writes config.gin, operative_config.gin, config.json and command.json into the workdir, and prints what changed.

    The gin files are those that `configuration.load` read last. compute_dtype: the run's, for command.json, because the
    settings may leave it to the machine. recorded: as in `check_records`. Call it after all checks, so that a refused
    start leaves existing records unchanged.
    """
    if changed := differences(recorded(workdir) or resolved(config), resolved(config)):
        print("accepted changes of the run's settings:", *changed, sep="\n  ", flush=True)
    command = {"command": sys.argv, "python": sys.version.split()[0], "git": git_sha(), "versions": versions()}
    if compute_dtype:
        command["compute_dtype"] = compute_dtype
    for name, text in configuration.gin_texts().items():
        write_text(workdir / name, text)
    write_text(workdir / "config.json", json.dumps(resolved(config), indent=1, ensure_ascii=False) + "\n")
    write_text(workdir / "command.json", json.dumps(command, indent=1) + "\n")


def resolved(config: Any) -> dict[str, Any]:
    """Returns the configuration as plain JSON values under the root's class name, as config.json holds it."""
    return {type(config).__name__: json.loads(json.dumps(dataclasses.asdict(config)))}


def differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = "", verbs: tuple[str, str] = ("was", "is now")
) -> list[str]:
    """Returns one line for every setting in which two resolved configurations differ; verbs: before its two values."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        name = f"{prefix}.{key}" if prefix else key
        before, now = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, dict) and isinstance(now, dict):
            lines += differences(before, now, name, verbs)
        elif before != now:
            lines.append(f"{name}: {verbs[0]} {before!r}, {verbs[1]} {now!r}")
    return lines


UNKNOWN = "unknown"
"""The commit where git does not tell it."""


def git_sha() -> str:
    """Returns the commit of this checkout, with "-dirty" appended where files differ; "unknown" outside of one.

    A repository further up, as of the project in whose virtual environment the package is installed, is none.
    """
    library = Path(__file__).resolve().parent
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(library.parent.parent)}
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=library, env=environment, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN


def versions() -> dict[str, str]:
    """Returns the installed versions of this package, its main dependencies, and those of `OPTIONAL` that are there."""
    return dict.fromkeys(PACKAGES, "not installed") | installed((*PACKAGES, *OPTIONAL))


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the packages that are installed, by name."""
    versions_by_name = {}
    for name in packages:
        try:
            versions_by_name[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions_by_name

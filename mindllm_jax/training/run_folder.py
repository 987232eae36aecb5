"""An exclusive lock on a run's workdir, and checks that all its processes run the same in the same folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mindllm_jax.configuration import Arguments
from mindllm_jax.files import read_json
from mindllm_jax.locks import LOCK, lock_folder
from mindllm_jax.parallel.together import bytes_from_first, from_first, together
from mindllm_jax.run_records import (
    UNKNOWN,
    check_records,
    differences,
    git_sha,
    recorded,
    resolved,
    versions,
    write_records,
)
from mindllm_jax.training.checkpoint import latest_checkpoint, read_identity, steps_of

PATIENCE = 30.0  # seconds until the other hosts must see a file that one host wrote


class RunFolder(NamedTuple):
    """A locked run folder; `accept(compute_dtype)` writes its records once all checks have passed."""

    path: Path
    accept: Callable[[str], None]


@contextmanager
def run_folder(config: Any, arguments: Arguments) -> Iterator[RunFolder]:
    """Locks the workdir for this run while the block lasts, and checks its records.

    Raises, in every process, ValueError as `check_records` does, when processes have other settings or another version
    of the code, when another run has locked the folder, and when a host does not see it; OSError when process 0 cannot
    write to it.
    """
    require_same_run(config)
    workdir = together(lambda: check_records(config, arguments, _recorded))
    leader = jax.process_index() == 0
    token = from_first(secrets.token_hex(8))
    with ExitStack() as stack:
        lock = lock_folder(workdir, user="a run", otherwise="take another --workdir", token=token)
        together(lambda: stack.enter_context(lock) if leader else None)
        together(lambda: None if leader else _require_visible(workdir, token))
        # The run that held the lock may have changed them.
        together(lambda: check_records(config, arguments, _recorded))
        write = partial(write_records, config, workdir, recorded=_recorded)
        yield RunFolder(workdir, write if leader else lambda compute_dtype: None)


def require_same_run(config: Any) -> None:
    """Raises ValueError, in every process, where one has other settings, code or packages than process 0."""
    if jax.process_count() == 1:
        return
    mine = {**resolved(config), "commit": git_sha(), "versions": versions()}
    first = json.loads(bytes_from_first(json.dumps(mine).encode()))
    if UNKNOWN in (mine["commit"], first["commit"]):  # of a host without git, or where it takes too long
        mine["commit"] = first["commit"]

    def require_equal() -> None:
        if changed := differences(first, mine, verbs=("process 0 has", "this one has")):
            listing = "\n  ".join(changed)
            raise ValueError(
                f"the processes of the run differ:\n  {listing}\n"
                "start the same command on all hosts, with the same commit and packages"
            )

    together(require_equal)


def _recorded(workdir: Path) -> dict[str, Any] | None:
    """Returns the settings in config.json or, where that is missing, in the latest checkpoint."""
    found = recorded(workdir)
    if found is not None or not steps_of(workdir):
        return found
    identity = read_identity(latest_checkpoint(workdir))
    # Classes' names are the only keys in capitals; that of the run itself follows those of its base.
    roots = [key for key in identity if key[:1].isupper()]
    return {roots[-1]: identity[roots[-1]]} if roots else None


def _require_visible(workdir: Path, token: str) -> None:
    """Raises ValueError when this host does not see the token that process 0 wrote."""
    path, deadline = workdir / LOCK, time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            for folder in (workdir.parent, workdir):
                os.listdir(folder)  # makes NFS refresh its view of the folder
            if read_json(path)["token"] == token:
                return
        if time.monotonic() > deadline:
            raise ValueError(
                f"--workdir {workdir} is not the folder that process 0 writes to: it must lie on a file system that "
                "all hosts share"
            )
        time.sleep(0.2)

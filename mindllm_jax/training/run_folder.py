"""An exclusive lock on a run's workdir, and a check that all its processes see the same folder."""

from __future__ import annotations

import contextlib
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
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.run_records import check_records, write_records

PATIENCE = 30.0  # seconds until the other hosts must see a file that one host wrote


class RunFolder(NamedTuple):
    """A locked run folder; `accept(compute_dtype)` writes its records once all checks have passed."""

    path: Path
    accept: Callable[[str], None]


@contextmanager
def run_folder(config: Any, arguments: Arguments) -> Iterator[RunFolder]:
    """Locks the workdir for this run while the block lasts, and checks its records.

    Raises, in every process, ValueError as `check_records` does, when another run has locked the folder, and when a
    host does not see it; OSError when process 0 cannot write to it.
    """
    workdir = together(lambda: check_records(config, arguments))
    leader = jax.process_index() == 0
    token = from_first(secrets.token_hex(8))
    with ExitStack() as stack:
        lock = lock_folder(workdir, user="a run", otherwise="take another --workdir", token=token)
        together(lambda: stack.enter_context(lock) if leader else None)
        together(lambda: None if leader else _require_visible(workdir, token))
        together(lambda: check_records(config, arguments))  # the run that held the lock may have changed them
        yield RunFolder(workdir, partial(write_records, config, workdir) if leader else lambda compute_dtype: None)


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

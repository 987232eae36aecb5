"""An exclusive lock on a run's folder, and a check that all its processes see the same folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import jax

from mindllm_jax.configuration import Arguments
from mindllm_jax.files import parse_json, read_json
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.run_records import check_records, write_records

LOCK = ".lock"
PATIENCE = 30.0  # seconds in which a file that one host wrote has to be seen by the others
LOCK_PATIENCE = 120.0  # seconds in which a file server lets go of the lock of a host that died

log = logging.getLogger(__name__)


class RunFolder(NamedTuple):
    """A locked run folder; `accept(compute_dtype)` writes its records once all checks have passed."""

    path: Path
    accept: Callable[[str], None]


@contextmanager
def run_folder(config: Any, arguments: Arguments) -> Iterator[RunFolder]:
    """Holds the workdir for this run while the block lasts, after a look at its records.

    Raises, in every process, ValueError as `check_records` does, where another run holds the folder, and where a host
    does not see it; OSError where process 0 cannot write there.
    """
    workdir = together(lambda: check_records(config, arguments))
    leader = jax.process_index() == 0
    word = from_first(secrets.token_hex(8))
    with ExitStack() as stack:
        together(lambda: stack.enter_context(_lock(workdir, word)) if leader else None)
        together(lambda: None if leader else _require_seen(workdir, word))
        together(lambda: check_records(config, arguments))  # a run that was waited for may have changed them
        yield RunFolder(workdir, partial(write_records, config, workdir) if leader else lambda compute_dtype: None)


@contextmanager
def _lock(workdir: Path, word: str) -> Iterator[None]:
    """Locks the folder; the lock ends with the process, however that ends."""
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            file = stack.enter_context(_locked(workdir / LOCK))
            stack.callback((workdir / LOCK).unlink, missing_ok=True)
            file.truncate(0)
            file.write(json.dumps(holder | {"machine": _machine(), "word": word}))
            file.flush()
        except OSError as error:
            raise OSError(f"{workdir}: cannot write into the folder of the run: {error.strerror}") from None
        yield


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders that were made for the lock, and in which nothing was written."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _locked(path: Path) -> TextIO:
    """Opens and locks a file; waits a while for a holder on another host, which may have died. Raises ValueError."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = _holder(file.read())
            if holder.get("machine", _machine()) == _machine() or time.monotonic() > deadline:
                raise ValueError(_in_use(path.parent, holder)) from None
            time.sleep(0.2)
            continue
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                file.close()
                raise
            log.warning("%s: this file system has no locks, so nothing keeps a second run out of the folder", path)
        # Another run may have removed the file between the two calls; a lock on what is gone protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _machine() -> str:
    """Names this machine until it starts again; a pod that is started elsewhere keeps its host name."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def _holder(content: str) -> dict[str, Any]:
    """Returns host, process and start of the lock's holder; nothing while they are not written yet."""
    with contextlib.suppress(ValueError):
        return parse_json(content, LOCK)
    return {}


def _in_use(workdir: Path, holder: dict[str, Any]) -> str:
    who = f" of process {holder.get('process')} on {holder.get('host')} since {holder.get('since')}" if holder else ""
    return f"{workdir} is in use by a run{who}: wait for it or stop it, or take another --workdir"


def _require_seen(workdir: Path, word: str) -> None:
    """Raises ValueError where this host does not see what process 0 wrote into the folder."""
    path, deadline = workdir / LOCK, time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            for folder in (workdir.parent, workdir):
                os.listdir(folder)  # NFS looks anew at a folder that is opened
            if read_json(path)["word"] == word:
                return
        if time.monotonic() > deadline:
            raise ValueError(
                f"--workdir {workdir} is not the folder that process 0 writes to: it has to lie on a file system that "
                "all hosts share"
            )
        time.sleep(0.2)

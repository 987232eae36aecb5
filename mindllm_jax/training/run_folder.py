"""An exclusive lock on a run's workdir, and a check that all its processes see the same folder."""

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
PATIENCE = 30.0  # seconds until the other hosts must see a file that one host wrote
LOCK_PATIENCE = 120.0  # seconds until a file server releases the lock of a host that died

log = logging.getLogger(__name__)


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
        together(lambda: stack.enter_context(_lock(workdir, token)) if leader else None)
        together(lambda: None if leader else _require_visible(workdir, token))
        together(lambda: check_records(config, arguments))  # the run that held the lock may have changed them
        yield RunFolder(workdir, partial(write_records, config, workdir) if leader else lambda compute_dtype: None)


@contextmanager
def _lock(workdir: Path, token: str) -> Iterator[None]:
    """Locks the folder; the lock ends with the process, even if that is killed."""
    created = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    with ExitStack() as stack:
        stack.callback(_remove_empty, created)
        try:
            file = stack.enter_context(_locked(workdir / LOCK))
            stack.callback((workdir / LOCK).unlink, missing_ok=True)
            file.truncate(0)
            file.write(json.dumps(holder | {"machine": _machine(), "token": token}))
            file.flush()
        except OSError as error:
            raise OSError(f"{workdir}: cannot write to the workdir: {error.strerror}") from None
        yield


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders that were created for the lock and are still empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _locked(path: Path) -> TextIO:
    """Opens and locks a file; waits for a holder on another host, which may have died. Raises ValueError in the end."""
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
            log.warning("%s: this file system has no locks, so a second run could use the workdir too", path)
        # Another run may have removed the file between the two calls; a lock on a removed file protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _machine() -> str:
    """Identifies this machine until it reboots; a host name does not, as a pod takes it along to another machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def _holder(content: str) -> dict[str, Any]:
    """Returns host, process and start time of the lock's holder; nothing before they are written."""
    with contextlib.suppress(ValueError):
        return parse_json(content, LOCK)
    return {}


def _in_use(workdir: Path, holder: dict[str, Any]) -> str:
    owner = f" of process {holder.get('process')} on {holder.get('host')} since {holder.get('since')}" if holder else ""
    return f"{workdir} is in use by a run{owner}: wait for it or stop it, or take another --workdir"


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

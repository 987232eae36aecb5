"""An exclusive lock of a folder, held by a process and known to other hosts through the file system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from mindllm_jax.files import parse_json

LOCK = ".lock"
PATIENCE = 120.0  # seconds until a file server releases the lock of a host that died

log = logging.getLogger(__name__)


class InUse(ValueError):
    """Another process holds the lock of a folder."""


@contextmanager
def lock_folder(
    folder: Path, *, user: str, otherwise: str, token: str = "", wait: float | None = None
) -> Iterator[None]:
    """Locks a folder, which is made if missing, while the block lasts; a killed process holds nothing.

    The file `.lock` in the folder names the holder, and is removed at the end with the folders that are then empty.

    Args:
        folder: to lock.
        user: what uses it, for the error of a second process, as "a run".
        otherwise: what else a second process can do than wait, for the error.
        token: is in the file.
        wait: seconds until a holder is an error; if not given, none for one on this machine, and for one on another
            host, which may have died, `PATIENCE`.

    Raises:
        InUse: another process holds the lock; its host, process and start are named.
        OSError: the folder cannot be written to, or is a link to nothing.
    """
    if broken := next((path for path in (folder, *folder.parents) if path.is_symlink() and not path.exists()), None):
        raise FileNotFoundError(
            f"{broken} is a link to {broken.readlink()}, which does not exist: is the disk mounted? Make that folder, "
            "or remove the link"
        )
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    with ExitStack() as stack:
        stack.callback(_remove_empty, created)
        try:
            file = stack.enter_context(_locked(folder, user, otherwise, wait))
            stack.callback((folder / LOCK).unlink, missing_ok=True)
            file.truncate(0)
            file.write(json.dumps(holder | {"machine": _machine(), "token": token}))
            file.flush()
        except OSError as error:
            raise OSError(f"{folder}: cannot write to the folder: {error.strerror}") from None
        yield


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders that were created for the lock and are still empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _locked(folder: Path, user: str, otherwise: str, wait: float | None) -> TextIO:
    """Opens and locks the file; waits as `lock_folder` says before it raises."""
    path, started = folder / LOCK, time.monotonic()
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # another process may have removed the empty folder between the two calls
            if time.monotonic() > started + 1:
                raise
            time.sleep(0.01)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = _holder(file.read())
            here = holder.get("machine", _machine()) == _machine()
            patience = wait if wait is not None else 0 if here else PATIENCE
            if time.monotonic() > started + patience:
                raise InUse(
                    f"{folder} is in use by {user}{_named(holder)}: wait for it or stop it, or {otherwise}"
                ) from None
            time.sleep(0.2)
            continue
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                file.close()
                raise
            log.warning("%s: this file system has no locks, so %s beside this one is not noticed", path, user)
        # Another process may have removed the file between the two calls; a lock on a removed file protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _machine() -> str:
    """Identifies this machine until it reboots; a host name does not, as a pod takes it along to another machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def _named(holder: dict[str, Any]) -> str:
    return f" of process {holder.get('process')} on {holder.get('host')} since {holder.get('since')}" if holder else ""


def _holder(content: str) -> dict[str, Any]:
    """Returns host, process and start time of the lock's holder; nothing before they are written."""
    with contextlib.suppress(ValueError):
        return parse_json(content, LOCK)
    return {}

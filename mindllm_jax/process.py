"""The process of an entry point: standard streams that take any text, and an end that nothing delays."""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn


def open_streams() -> None:
    """Makes the standard streams usable whatever the terminal is.

    A character that the encoding of stdout or stderr lacks is written as its escape (`\\u4e2d`). A stream that was
    closed (`>&-`) becomes the null device: else the next file that is opened would get its number, and what libraries
    print would go into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def fail(message: str, status: int) -> NoReturn:
    """Prints one line `error: …` and ends the process at once with this status.

    Everything that a context manager guards has been left by now: checkpoints are waited for, files closed, children
    joined. What an orderly exit would add only delays the end: Orbax's threads wait minutes for the other files of a
    save that failed, and jax.distributed for a barrier that the other processes, still computing, do not reach; they
    learn of this end by the broken connection.
    """
    with suppress(OSError):  # stdout may be a pipe that nobody reads any more, or a file on a full disk
        sys.stdout.flush()
    with suppress(OSError):
        print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(status)

"""Wrapper of an entry point: standard streams, exit status by kind of error, immediate exit after a failure."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn


def run(main: Callable[[], None]) -> NoReturn:
    """Runs an entry point and ends the process.

    Bad input (ValueError, OSError, ImportError) ends with one message and status 2, an interruption with status 130, an
    output that nobody reads any more with status 141. MINDLLM_TRACEBACK=1 shows the traceback too. After any other
    exception, whose traceback is always shown, the status is 1.
    """
    _open_streams()
    status: str | int | None = 0
    try:
        try:
            main()
        except SystemExit as stop:  # --help, --print_config
            if isinstance(stop.__context__, BrokenPipeError):  # rich's answer to it
                raise stop.__context__ from None
            status = stop.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to resume from what was saved", 130)
    except BrokenPipeError:
        _fail("the program that reads this one's output has ended (a pipe such as `| head`)", 141)
    except Exception as error:
        expected = isinstance(error, ValueError | OSError | ImportError)
        if not expected or os.environ.get("MINDLLM_TRACEBACK"):
            traceback.print_exc()
        _fail(str(error) or type(error).__name__, 2 if expected else 1)
    sys.exit(status)


def _open_streams() -> None:
    """Makes the standard streams usable whatever the terminal is.

    A character that the encoding of stdout or stderr lacks is written as its escape (`\\u4e2d`); a byte that is no
    text in the encoding of stdin is read as U+FFFD. A stream that was closed (`>&-`) becomes the null device: else the
    next file that is opened would get its number, and what libraries print would go into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open as long as the process
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


def _fail(message: str, status: int) -> NoReturn:
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

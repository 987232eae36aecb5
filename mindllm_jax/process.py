"""Runs an entry point: standard streams, exit status by kind of error, immediate exit after a failure."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

RESUMES = "interrupted; run the same command again to resume from what was saved"


def run(main: Callable[[], None], *, interrupted: str = RESUMES, at_once: bool = False) -> NoReturn:
    """Runs an entry point and ends the process; `interrupted` is what it prints after Ctrl-C.

    at_once: Ctrl-C ends the process without KeyboardInterrupt, which XLA's callbacks print or swallow, while `main` has
    no handler of its own. For an entry point that loses nothing by it but tidiness: a free `.lock` may stay.

    Bad input (ValueError, OSError, ImportError) ends with one message and status 2, an interruption with status 130, a
    closed output pipe with status 141. MINDLLM_TRACEBACK=1 shows the traceback too. Any other exception ends with its
    traceback and status 1.
    """
    _open_streams()
    if at_once and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, lambda *_: _fail(interrupted, 130))
    status: str | int | None = 0
    try:
        try:
            main()
        except SystemExit as stop:  # --help, --print_config
            if isinstance(stop.__context__, BrokenPipeError):  # rich turns it into SystemExit
                raise stop.__context__ from None
            status = stop.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        _fail(interrupted, 130)
    except BrokenPipeError:
        _fail("the program that reads the output has ended (a pipe such as `| head`)", 141)
    except Exception as error:
        expected = isinstance(error, ValueError | OSError | ImportError)
        if not expected or os.environ.get("MINDLLM_TRACEBACK"):
            traceback.print_exc()
        _fail(str(error) or type(error).__name__, 2 if expected else 1)
    sys.exit(status)


def exit_with_parent() -> None:
    """Ends this worker process when the process that started it ends, however that is; it would live on otherwise."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _open_streams() -> None:
    """Makes the standard streams usable whatever the terminal is.

    A character that the encoding of stdout or stderr lacks is written as its escape (`\\u4e2d`); a byte that stdin's
    encoding cannot decode is read as U+FFFD. A closed stream (`>&-`) becomes the null device: otherwise the next opened
    file would get its number, and libraries would print into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  stays open until the process ends
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


def _fail(message: str, status: int) -> NoReturn:
    """Prints one line `error: …` and ends the process immediately with this status.

    All context managers have ended: checkpoints are complete, files closed, children joined. An orderly exit would only
    delay the end: Orbax's threads wait minutes for the other files of a failed save, and jax.distributed for a barrier
    that the other processes, still computing, do not reach; the broken connection ends these.
    """
    # A stream may be a closed pipe, or a file on a full disk; RuntimeError: a signal interrupted its writing.
    with suppress(OSError, RuntimeError):
        sys.stdout.flush()
    with suppress(OSError, RuntimeError):
        print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(status)
